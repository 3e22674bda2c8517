"""One cache of decoded samples per node, shared by all its loader workers and ranks."""
