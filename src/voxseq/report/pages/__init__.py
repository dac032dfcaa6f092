"""HTML pages of the study."""
