"""Tables for terminals: connections, summaries and policies."""
