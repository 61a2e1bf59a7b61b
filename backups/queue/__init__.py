"""The queue: in the process of `serve`, or in the PostgreSQL that many machines share."""
