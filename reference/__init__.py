"""The docs site: pages of reference made from the code, and the hooks that give mkdocs all pages.

May import augmentations, configs, data, errors, models, studies, training.
"""
