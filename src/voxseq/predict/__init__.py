"""Trained models at work: from images to labels on their own grid, and to files for others."""
