"""The whole cloud on a seeded loop with virtual time: faults, crashes, and checkers that balance the books."""
