"""Sources of dense models: the Hub, a folder or GGUF file, a Python package, random weights."""
