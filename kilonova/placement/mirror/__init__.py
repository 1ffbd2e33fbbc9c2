"""The mirror: the books in memory, kept current by changes. No SQL here; any process may keep one."""
