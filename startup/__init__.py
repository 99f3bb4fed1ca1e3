"""How a command starts: signals, flags, XLA settings, the compilation cache, multi-process jobs.

Files here import nothing heavy at the top, so that --help, a mistyped flag and Ctrl-C are handled
before jax is imported. May import configs, errors, models.
"""
