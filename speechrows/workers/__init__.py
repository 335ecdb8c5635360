"""Who does jobs: this process, several of this machine, or a Ray cluster."""
