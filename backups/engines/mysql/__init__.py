"""MariaDB, by the vendor's own dump."""
