"""The sections of the configuration: every key with its default, unit, range and reason beside it."""
