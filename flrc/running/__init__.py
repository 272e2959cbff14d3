"""One run: its checks, its identity, its stages and their costs."""
