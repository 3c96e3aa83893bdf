"""The file system: writing files that survive a power cut, opening files without following links, and locks."""
