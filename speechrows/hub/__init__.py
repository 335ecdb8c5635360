"""A built folder on the Hub: publish it, and see that the Hub's viewer can show it."""
