"""Log readers, statistics and findings; pure functions over tables."""
