"""The layers of a compressed model."""
