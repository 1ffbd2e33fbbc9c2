"""Changes: the feed that keeps mirrors of the books current."""
