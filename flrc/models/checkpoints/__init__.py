"""Models on disk: the files of a saved model, and checkpoints of compressed models."""
