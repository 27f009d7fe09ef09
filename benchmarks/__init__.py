"""Figures of this project, each printed beside its aim. Run with ``make bench``; nothing here is a test."""
