"""What is done to an image before a backbone sees it."""
