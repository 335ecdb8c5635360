"""A built folder on the Hub: publish it, and check that the Hub's viewer can show it."""
