"""What a model is made of: blocks, linear layers, inputs, limits."""
