"""The papers' test protocols: the views of an image and how the network's outputs are averaged.

`crops` has the views of every protocol, `registry` the protocols by name, `dense` the fully
convolutional form of a network, `score_average` the averaging; `predictions` runs a protocol,
`scoring` counts errors, `calibration` compares confidence with accuracy, `error_tables` formats
tables, `mistakes_page` a page.
May import augmentations, data, engines, errors, inspection, models, papers, sharding,
training, webpages.
"""
