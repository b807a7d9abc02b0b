"""The command line: options and help of every command; what they do is in api.py."""

from survbench.cli.main import cli, main

__all__ = ["cli", "main"]
