"""Commands that people look at: the report and the browser."""
