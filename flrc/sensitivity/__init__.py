"""Sensitivities: one score per target."""
