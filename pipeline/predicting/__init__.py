"""What predict works with: new images to features, and the file that predictions are written to."""
