"""The sidecar: an agent beside each instance that registers it, drives a proxy and supervises the app."""
