"""Pre-training methods: one file each, behind one interface."""
