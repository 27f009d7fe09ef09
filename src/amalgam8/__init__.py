"""Amalgam8: services call each other by content and by version."""
