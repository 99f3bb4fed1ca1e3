"""What a network costs and sees, measured on its trace. May import errors, models, papers."""
