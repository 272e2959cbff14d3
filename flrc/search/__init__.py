"""Searches: which schedule a method generates with."""
