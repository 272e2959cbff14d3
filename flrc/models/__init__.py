"""Models: sources of dense ones, their anatomy, compressed layers, checkpoints."""
