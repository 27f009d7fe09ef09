"""The controller: rules by tenant and revision, translated for each caller, pushed, and followed up."""
