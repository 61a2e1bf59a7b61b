"""Places that a copy is restored to, and that are destroyed afterwards."""
