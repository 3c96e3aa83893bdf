"""How large a Parquet file becomes, counted before anything is decoded."""
