"""A built folder, on disk or on the Hub: where its files lie, its index, what it holds."""
