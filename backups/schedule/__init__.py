"""When: what is due, what of it starts now, and the processes that do it."""
