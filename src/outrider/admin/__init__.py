"""The HTTP port for probes and Prometheus."""
