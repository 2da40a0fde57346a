"""Parts of a suggestion: rules before they are written, decisions, helpers."""
