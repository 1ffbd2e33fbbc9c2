"""Resource providers: what has capacity, as trees."""
