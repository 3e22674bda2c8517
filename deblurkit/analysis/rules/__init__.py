"""What the findings measure, one file per subject; the rules themselves are one table in `rule_table`."""
