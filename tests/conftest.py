"""What every test gets. Hooks live in tests/plugins, one file per concern."""

import hypothesis

pytest_plugins = ["tests.plugins.order", "tests.plugins.skips", "tests.plugins.services"]

# How long an example takes says how busy the machine is, not whether the code is right.
hypothesis.settings.register_profile("kilonova", deadline=None)
hypothesis.settings.load_profile("kilonova")
