"""Knowing without looking: what stands, whom it is told, and that the telling works."""
