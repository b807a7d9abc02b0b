"""Survival prediction from slides and transcriptomes: one interface, one trainer, one leaderboard.

Nothing heavy is imported here, so that `survbench --help` answers at once.
"""

__version__ = "0.1.0"
