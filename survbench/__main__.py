"""`python -m survbench` is the same as `survbench`."""

from survbench.cli import main

if __name__ == "__main__":
    main()
