"""An epoch planned before it is read: pure, numpy alone."""
