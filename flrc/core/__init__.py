"""What every room stands on: files, folders, the cache, components, progress."""
