"""AMKD: a teacher on slides and transcriptome, distilled into a student that sees slides alone."""
