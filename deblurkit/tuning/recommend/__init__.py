"""Which configuration trains fastest in the memory that is there: predicted, measured where it tells most."""
