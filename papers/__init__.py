"""What the papers print, with sources and misprints; may import nothing of the project."""
