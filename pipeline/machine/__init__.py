"""This machine and the processes that share the work: device, rank, group, doctor."""
