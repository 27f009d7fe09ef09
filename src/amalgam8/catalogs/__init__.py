"""Instances that others look after: Kubernetes, Eureka, a file, or whatever a plug-in brings."""
