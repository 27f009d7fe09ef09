"""The HTTP server side, once for all: requests, errors, limits, event streams, and serving them."""
