"""Messages: what users are told of operations that failed."""
