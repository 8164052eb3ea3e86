"""Measurements: how fast the service starts, and how much it computes."""
