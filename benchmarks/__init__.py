"""bert-serving: sentence and token embeddings as a service."""
