"""flrc as a Python library: runs, compression of a model in memory, generation."""
