"""Schedules: forward step to rate."""
