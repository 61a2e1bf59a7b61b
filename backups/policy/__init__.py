"""The rules of what is due and what may go: pure functions of plain values."""
