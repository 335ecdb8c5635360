"""Generated columns (answers, codes, units), joined to a corpus by clip_id."""
