"""Tags: words that users put on their resources."""
