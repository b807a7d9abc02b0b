"""What others wrote, and what may be read of it: YAML, and weights of official implementations."""
