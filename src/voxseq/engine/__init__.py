"""Running a plan: workspace, markers, session, DVC, and several processes."""
