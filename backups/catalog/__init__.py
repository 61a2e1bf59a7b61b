"""The catalog: an index that buckets can rebuild."""
