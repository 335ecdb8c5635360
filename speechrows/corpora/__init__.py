"""A publisher's files in, dialogues out."""
