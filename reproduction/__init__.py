"""Runs, judges, tabulates and draws studies; contains nothing about a particular one.

May import configs, data, display, errors, papers, startup, training, webpages.
"""
