"""The service beside a bare endpoint, and beside two others that serve the same model."""

from benchmarks.serving.rounds import serving

__all__ = ["serving"]
