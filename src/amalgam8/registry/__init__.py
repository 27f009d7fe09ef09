"""The registry: service instances with leases, kept per tenant, over REST and as a stream."""
