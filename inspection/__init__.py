"""Costs, receptive fields and pictures of a network, and what its weights have learned.

May import errors, models, papers.
"""
