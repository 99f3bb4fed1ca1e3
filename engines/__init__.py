"""What feeds `input_pipeline`: resident and streaming; may import data, augmentations."""
