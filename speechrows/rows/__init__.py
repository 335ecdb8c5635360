"""Dialogue x Task -> Row, Skipped or LeftOut."""
