"""The command line: overrides, jobs, processes."""
