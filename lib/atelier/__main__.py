"""`python -m atelier`: the same as `atelier`, where the folder of scripts is not on the path."""

from atelier.cli import app

app(prog_name="atelier")
