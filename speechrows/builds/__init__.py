"""Dialogues in, shard files out: a resumable map over shards."""
