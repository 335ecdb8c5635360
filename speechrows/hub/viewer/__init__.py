"""Whether the Hub's dataset viewer can show a folder."""
