"""Dialogues in, shard files out, resumable: a map over shards, whoever drives it."""
