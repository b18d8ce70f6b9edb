"""Results as tables and lines that people read."""
