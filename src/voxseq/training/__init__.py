"""The training loop, its schedules, seeds and checkpoints."""
