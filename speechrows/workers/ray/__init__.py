"""Jobs on a Ray cluster. Import it where it is asked for alone: ray is an extra."""
