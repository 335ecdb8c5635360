"""How bytes are reached, on this machine or in a remote store."""
