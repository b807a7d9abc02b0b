"""Does another version of the suite give the same results? Records what the command line gives, and compares."""
