"""The two sources of batches for input_pipeline: resident and streaming.

May import augmentations, data, errors, randomness, sharding.
"""
