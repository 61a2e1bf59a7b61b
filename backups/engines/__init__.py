"""Database engines: one folder or file each."""
