"""The files of a run: its folder, its tensors, and the record of who made it."""
