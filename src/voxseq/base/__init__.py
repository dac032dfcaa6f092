"""Foundation: files, errors, locks, logs, random streams, processes."""
