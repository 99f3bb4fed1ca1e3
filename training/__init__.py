"""The parts that train.py's story is told from: each file one part, each function
callable alone."""
