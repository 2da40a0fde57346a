"""Files that a stream publishes, and when they are over."""
