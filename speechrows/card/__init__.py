"""README.md of a built folder: YAML, prose, figures, pictures, one example row."""
