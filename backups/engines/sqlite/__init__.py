"""SQLite: a database is one file on this machine."""
