"""Faults at random moments under continuous load: ``python -m bert_serving.benchmarks.chaos``."""
