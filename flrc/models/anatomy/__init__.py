"""The structure of a dense model: its blocks, linear layers, inputs and limits."""
