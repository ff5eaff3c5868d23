"""What every room speaks: errors, ports and the context of a request. Pure; of ours it imports only `v1`."""
