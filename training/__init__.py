"""The parts that train.py calls, each file one part, each function callable alone.

May import augmentations, configs, data, errors, inspection, input_pipeline, models, randomness,
sharding, startup.
"""
