"""Data sources, token streams of text, and summarization prompts."""
