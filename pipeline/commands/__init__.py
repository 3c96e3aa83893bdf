"""The commands behind `cli.py`. Only these modules and `cli.py` import click, and no other part of pipeline imports them."""
