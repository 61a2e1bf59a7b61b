"""What an operator copies: units, alert rules. Data, no code."""
