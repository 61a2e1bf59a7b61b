"""The proof: restore tests, evidence, report."""
