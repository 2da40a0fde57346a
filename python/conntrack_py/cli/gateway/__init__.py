"""Commands for what a gateway hides."""
