"""Models that eat a loader's batches: speech in, text and codec frames out."""
