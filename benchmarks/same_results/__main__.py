"""`python -m benchmarks.same_results`."""

from benchmarks.same_results.cli import main

if __name__ == "__main__":
    main()
