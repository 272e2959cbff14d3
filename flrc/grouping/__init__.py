"""Groupings: which layers are decomposed together."""
