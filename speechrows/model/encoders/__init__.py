"""Speech encoders of transformers without their padding: clips of any length in, whole frames out."""
