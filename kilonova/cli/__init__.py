"""The door: `kilonova up` and its friends. The only place, beside `sim`, that knows everything."""
