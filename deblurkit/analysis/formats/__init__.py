"""One file per log format: how to tell it by its content, and how to read it."""
