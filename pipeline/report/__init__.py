"""What a person reads of a comparison. Nothing here computes a figure or trains."""
