"""Speed and memory of the suite beside its peers: `make bench`, or `python -m benchmarks --help`.

Run by hand, never as a test, and not part of the installed package.
"""
