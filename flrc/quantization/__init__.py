"""Quantizations of the stored factors."""
