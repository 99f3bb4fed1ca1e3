"""The names of the files in a workdir. Imports nothing, since preemption.py needs them early."""

CONFIG, ENVIRONMENT, RESULT = "config.json", "environment.json", "result.json"
DATA = "data.npz"  # what data_record keeps
INIT = "init.json"  # what starting_weights keeps
FOLDER = "checkpoints"
