"""The version of the distribution; setup.py, the client and the server all read it here."""

__version__ = "2.0.0.dev0"
