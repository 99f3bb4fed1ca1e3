"""What happens to an image between the store and the network, each step a small pure function.

`boxes` says which part of an image becomes the network's input, `geometry` moves pixels, `colour`
changes them, `normalize` puts them on the scale that a paper trained with. `calls` reads the
configuration's call strings; `recipe` strings the functions together for a batch. Images are
float32 with 0..255 in them until a normalisation changes the scale. May import errors.
"""
