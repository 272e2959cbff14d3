"""Records of runs: schema, identity, files."""
