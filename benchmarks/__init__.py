"""Paired measurements of what vehins promises: `python -m benchmarks --help`."""
