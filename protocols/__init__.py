"""The papers' test protocols: which parts of an image a network sees, how answers are averaged.

`crops` has the boxes of every protocol, `registry` the protocols by name, `dense` the fully
convolutional form of a network, `score_average` the order in which scores become posteriors,
`predictions` runs them, `scoring` counts.
May import augmentations, data, engines, errors, inspection, models, papers, sharding, training.
"""
