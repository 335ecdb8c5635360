"""Toys: small real things whose right answer can be worked out by hand."""
