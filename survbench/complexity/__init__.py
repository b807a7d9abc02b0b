"""What a model costs: parameters and operations are counted (count.py), time and memory are measured (measure.py)."""
