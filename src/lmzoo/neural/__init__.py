"""What all neural species share: torch starts on this floor."""
