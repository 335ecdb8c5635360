"""Generates sidecars: values made from clips by models (answers, codes, units), joined by `build --with`."""
