"""Typed artifacts on disk: manifests, the workspace that holds them, fingerprints that tell when to make them anew."""
