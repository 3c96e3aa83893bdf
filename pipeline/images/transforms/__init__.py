"""Transforms of images before they enter a backbone: cropping, resizing, augmentation."""
