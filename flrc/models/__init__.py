"""Models: loading, targets, low-rank layers, surgery."""
