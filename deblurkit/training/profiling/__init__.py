"""One training step taken apart: time, operations, bytes and memory by phase and by module."""
