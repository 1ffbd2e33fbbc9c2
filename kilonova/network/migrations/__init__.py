"""Schema changes of the network database, in order."""
