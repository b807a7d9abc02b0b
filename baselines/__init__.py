"""Published models, one file each, behind `survbench.model`."""
