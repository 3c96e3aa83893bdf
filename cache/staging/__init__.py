"""A cache that is being written: its shards, the journal, the seal."""
