"""Simulated data: the equations, the demo with its invented patients, and slides for real patients."""
