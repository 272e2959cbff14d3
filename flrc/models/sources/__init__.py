"""Where dense models come from."""
