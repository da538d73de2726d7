"""`python -m tidegate`."""

from tidegate.cli import main

main(prog_name="tidegate")
