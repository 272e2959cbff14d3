"""Data sources, text streams and summarization pairs."""
