"""The use cases: they know ports only."""
