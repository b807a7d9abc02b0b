"""From the files that users have to batches of patients: importers, packed bags, cohorts, folds, the demo."""
