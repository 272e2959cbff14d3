"""Studies: grids of runs, and the tables of the paper."""
