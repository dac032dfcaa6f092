"""Groups of commands that are loaded when they are called."""
