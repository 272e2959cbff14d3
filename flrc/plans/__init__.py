"""Plans as plain data: targets, ranks, phases."""
