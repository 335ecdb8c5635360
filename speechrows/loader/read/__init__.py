"""From a plan to what its rows say and sound like, on the host: reading, and nothing else."""
