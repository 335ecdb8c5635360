"""Access to bytes, on this machine or in a remote store."""
