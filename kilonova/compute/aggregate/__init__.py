"""Host aggregates: hosts that operators put together, and the availability zones that come of it."""
