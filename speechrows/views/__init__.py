"""Whole conversations as batches of other shapes: what trainers of full-duplex models take."""
