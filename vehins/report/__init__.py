"""A run, or two of them side by side, as one HTML file that needs nothing else."""
