"""Calibration: token sequences, input statistics, gradients."""
