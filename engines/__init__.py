"""What feeds input_pipeline: resident and streaming.

May import augmentations, data, randomness, sharding.
"""
