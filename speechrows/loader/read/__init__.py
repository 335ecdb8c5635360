"""From a plan to its rows' tokens, codes and samples on the host: reading, and nothing else."""
