"""Costs and receptive fields, measured on a traced network. May import errors, models, papers."""
