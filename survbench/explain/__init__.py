"""What models looked at."""
