"""Spatial and intensity operations on volumes: views of the methods, augmentations of the tasks."""
