"""Other systems to compare with, each in a virtual environment of its own."""
