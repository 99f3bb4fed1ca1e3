"""What the papers print, with sources and misprints. May import nothing of the project."""
