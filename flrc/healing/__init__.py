"""Gradient tuning of the factors of a compressed model."""
