"""From a command to results on disk: jobs, their plan, their execution and their mirror in MLflow."""
