"""One run: what is checked before it, its identity, its stages."""
