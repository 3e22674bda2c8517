"""The YAML configuration: its schema, its loading, its presets."""
