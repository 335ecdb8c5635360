"""Building: a map over shards. Read dialogues, make rows, write tables; who drives it varies."""
