"""Dataset layouts that users have, read as they lie on the disk."""
