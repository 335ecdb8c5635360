"""Speech corpora in, training rows out. The map is docs/design.md."""
