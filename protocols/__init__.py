"""The papers' test protocols: which parts of an image a network sees, and how its answers average.

`geometry` has the boxes of every protocol, `catalog` the protocols by name, `dense` the fully
convolutional form of a network, `averaging` the order in which scores become posteriors,
`predictions` runs them, `scoring` counts.
May import augmentations, data, engines, errors, inspection, models, papers, sharding, training.
"""
