"""Check whether the Hub's viewer can show a dataset."""
