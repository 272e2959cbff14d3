"""The framework as a library."""
