"""Changes made to a restored copy on purpose: what the checks must notice."""
