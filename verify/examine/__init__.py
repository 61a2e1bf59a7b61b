"""What engines tell about a copy that was restored: levels 9 to 11 of the ladder."""
