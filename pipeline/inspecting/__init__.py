"""What inspect looks at in a cache: its features, and labels that may be wrong."""
