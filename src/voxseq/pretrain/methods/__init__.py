"""Pre-training methods, one module per method."""
