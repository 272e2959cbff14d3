"""Studies: a table of the paper as a grid of runs, rendered in the paper's layout."""
