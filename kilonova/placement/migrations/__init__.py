"""Schema changes of placement, one file per noun."""
