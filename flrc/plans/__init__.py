"""Plain data of a plan: targets, ranks, phases."""
