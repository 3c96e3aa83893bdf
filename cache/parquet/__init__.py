"""How many bytes a Parquet file takes once decoded, counted before anything is decoded."""
