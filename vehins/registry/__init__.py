"""The model registry: immutable versions, aliases that move by compare-and-swap, and their history."""
