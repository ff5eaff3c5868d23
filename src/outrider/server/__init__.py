"""The gRPC side: one servicer per service, interceptors, and the one place where errors become statuses."""
