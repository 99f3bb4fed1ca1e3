"""How a command starts: signals, flags, settings of XLA, the compilation cache, jobs of processes.

Files here import nothing heavy at the top: --help, a mistyped flag and Ctrl-C are answered before
jax is imported. May import configs, errors, models.
"""
