"""A report in the forms that people read: HTML, PDF, CSV. Pure."""
