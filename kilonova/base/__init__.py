"""The ground of the ground: ids, clock, random, faults, settings, Caller. Standard library only."""
