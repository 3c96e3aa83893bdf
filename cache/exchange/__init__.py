"""A user's arrays into a cache, and a cache into arrays."""
