"""Between servicer and provider: one file per stage, composed in `pipeline`."""
