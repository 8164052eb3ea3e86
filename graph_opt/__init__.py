"""Turns BERT checkpoints into the graphs that the workers run.

``sources`` read a model directory, ``pipeline`` builds the graph in its training form and runs the
passes, ``targets`` write it for an engine, ``cache`` keeps the result. Importing any of these loads
no engine and no format library.
"""
