"""What the papers print: results, misprints, references. May import nothing of the project."""
