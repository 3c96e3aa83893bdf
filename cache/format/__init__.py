"""The format of a cache: names of files, zarr.json, bytes of chunks, and the rows and features that may be stored."""
