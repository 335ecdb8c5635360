"""Screens rows: scores what may be wrong with a clip and its text, and says which rows are worst."""
