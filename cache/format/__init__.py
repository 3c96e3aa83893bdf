"""How a cache lies in its files: names, zarr.json, chunks, and what may enter."""
