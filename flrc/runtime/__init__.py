"""Runtimes: how the compressed model is executed."""
