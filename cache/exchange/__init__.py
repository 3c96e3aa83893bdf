"""Import, from a user's arrays to a cache, and export, from a cache to arrays."""
