"""What export makes models with: the network that is written, reading it again, and how near the two are."""
