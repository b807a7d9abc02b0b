"""What is measured, one module a subject. A suite makes races or outcomes; it knows nothing of files or tables."""
