"""Statistics of predictions: concordance and its kin, calibration over time, risk groups."""
