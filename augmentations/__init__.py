"""Pure functions that turn a stored image into the network's input.

`boxes` chooses the part of an image that becomes the input, `geometry` moves pixels, `colour`
changes them, `normalize` scales them as a paper did. `calls` reads the configuration's call
strings; `recipe` applies the functions to a batch. Images are float32 in 0..255 until a
normalisation changes the scale. May import errors.
"""
