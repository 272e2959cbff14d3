"""Decompositions: weight and statistics in, ordered factors out."""
