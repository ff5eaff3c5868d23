"""Outrider, the LLM sidecar."""

__version__ = "0.1.0"
