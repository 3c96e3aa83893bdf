"""Images and labels: where they come from, the long-tailed draw, pixels a batch at a time."""
