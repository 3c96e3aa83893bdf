"""Long-tailed classifiers in decoupled stages."""
