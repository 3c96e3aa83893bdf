"""A cache that is being written: how it is cut into shards, the journal of what is written, and the last step, the seal."""
