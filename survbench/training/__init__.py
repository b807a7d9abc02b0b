"""Objectives, the fit loop with its stages and checkpoints, devices and precision."""
