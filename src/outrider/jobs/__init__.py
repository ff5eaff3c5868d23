"""Requests that are answered later: taken in, worked on, followed. Knows core alone."""
