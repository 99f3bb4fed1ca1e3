"""What a network costs and sees, measured on its trace; may import models and papers."""
