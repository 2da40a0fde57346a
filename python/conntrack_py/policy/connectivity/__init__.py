"""Answers about connectivity: why a connection passes or not, and in what two policies differ."""
