"""Rows as conversations in time: who says what, when, and in which channel."""
