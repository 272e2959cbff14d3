"""Allocators: scores in, ranks out; one budget solver serves them all."""
