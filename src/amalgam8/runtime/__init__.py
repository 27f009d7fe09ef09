"""What every daemon needs to run: a cell for the latest value, settings, logs, tasks and signals."""
