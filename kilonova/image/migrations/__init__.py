"""Image's migrations, in order."""
