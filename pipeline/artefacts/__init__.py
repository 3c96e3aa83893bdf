"""What a run leaves on the disk: its folder, its tensors, who made it."""
