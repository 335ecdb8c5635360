"""Sidecars: folders of generated columns (answers, codes, units), joined to a corpus by clip_id."""
