"""Runs, judges, tabulates and draws studies, and knows none; may import training and below."""
