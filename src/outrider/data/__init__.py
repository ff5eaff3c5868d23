"""Facts that come with Outrider, read with `importlib.resources`."""
