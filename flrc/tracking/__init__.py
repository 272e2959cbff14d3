"""Sinks that show finished records elsewhere."""
