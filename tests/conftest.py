"""What every test gets. Hooks live in tests/plugins, one file per concern."""

pytest_plugins = ["tests.plugins.order", "tests.plugins.skips", "tests.plugins.services"]
