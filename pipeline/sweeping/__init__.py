"""What a sweep needs: its points from a file, the work that one process does, and the choice among the points."""
