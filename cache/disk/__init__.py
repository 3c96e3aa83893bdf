"""The file system: writing that lasts, opening that follows no link, locks."""
