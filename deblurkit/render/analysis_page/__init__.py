"""Reports on logs as one HTML file with pictures."""
