"""From a built folder to a Hub dataset, in one commit."""
