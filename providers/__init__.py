"""The clouds: object stores behind one port."""
