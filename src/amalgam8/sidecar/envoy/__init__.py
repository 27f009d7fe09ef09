"""The sidecar's Envoy side: Envoy messages and gRPC stand nowhere else in the project."""
