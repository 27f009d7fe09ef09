"""Typed clients of the registry and the controller, for sidecars, the command line and anybody else."""
