"""Evaluations: a model in, measurements out."""
