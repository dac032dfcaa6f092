"""A study of a user's own images: looking at them, and a configuration that fits them."""
