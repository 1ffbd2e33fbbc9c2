"""Metadata definitions: which properties images, flavors and volumes may carry, and what these mean."""
