"""Spike recordings, datasets, simulators and loaders."""
