"""Runtimes: ways to execute a compressed model."""
