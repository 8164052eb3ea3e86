"""Passes: pure functions from a graph to a graph, one file each. ``pipeline`` says their order."""
