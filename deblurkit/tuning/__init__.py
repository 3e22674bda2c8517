"""Configurations predicted, measured and searched, before a run is started."""
