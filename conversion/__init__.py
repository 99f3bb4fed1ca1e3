"""Weights of other frameworks in and out: their files, and which of their arrays is which of ours.

`..._file` reads and writes a format, `..._layers` has the tables of names, `table` applies them,
`sources` lists what is supported, `workdir` makes a run of the result. No other framework is
needed to read a file, and nothing in a file is run.
May import augmentations, configs, data, errors, models, sharding, training.
"""
