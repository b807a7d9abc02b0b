"""Finished jobs in MLflow, where results can be looked at and models loaded; `mlflow` alone is the library."""
