"""The commands behind `cli.py`. click is imported here and there alone; nothing else in pipeline imports this."""
