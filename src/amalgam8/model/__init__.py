"""The nouns: instances, rules, callers, reports and errors. Frozen, validated, no I/O."""
