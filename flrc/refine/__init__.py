"""Refinements: what is done to factors once the plan is known."""
