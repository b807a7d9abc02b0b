"""Rows that keep a leaderboard honest (protocol rule 16): what chance, the clinic and classical statistics reach."""
