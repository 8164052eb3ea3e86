"""How each of the checks is measured, one module for each kind of other side."""
