"""Basics for all other packages: files, folders, cache, components, devices, progress."""
