"""`make conformance AREA=…`: the field's own test suites, unmodified, against a cloud made for them."""
