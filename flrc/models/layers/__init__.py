"""The layers that a compressed model is made of."""
