"""Targets: writing a graph in the format of an engine."""
