"""`python -m survbench` is the same as `survbench`."""

from survbench.cli import main

main()
