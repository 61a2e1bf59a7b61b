"""The HTTP API for dashboards, and the pages."""
