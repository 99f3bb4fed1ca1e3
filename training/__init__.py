"""The parts that train.py calls, one part a file, each function callable by itself.

May import augmentations, configs, data, display, engines, errors, inspection, input_pipeline,
models, randomness, sharding, startup.
"""
