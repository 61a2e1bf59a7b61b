"""PostgreSQL, through its own client tools."""
