"""A browser of connections in the terminal, with sort, condition and the evidence of one connection."""
