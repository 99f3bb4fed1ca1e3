"""Runs, judges, tabulates and draws studies, and knows no particular one.

May import configs, data, errors, papers, startup, training.
"""
