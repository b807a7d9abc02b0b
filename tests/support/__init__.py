"""Builders, toys and fixtures that tests share; no test imports a conftest."""
