"""Where a training step's time goes: clocks, the timing logger and its files."""
