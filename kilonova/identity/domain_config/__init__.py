"""What is configured for one domain only."""
