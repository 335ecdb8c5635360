"""A task's segments under a tokenizer: text, ids and mask."""
