"""The compute agent: its verbs, a file per group, and the process that serves them."""
