"""Evaluations: take a model, return measurements."""
