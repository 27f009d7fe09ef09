"""Instances from Kubernetes: EndpointSlices, pods and services, listed and watched."""
