"""What feeds input_pipeline: resident, streaming. May import augmentations, data, randomness."""
