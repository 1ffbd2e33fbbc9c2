"""Schema of block storage, step by step."""
