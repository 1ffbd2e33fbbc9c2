"""Which endpoints the catalog of a project shows."""
