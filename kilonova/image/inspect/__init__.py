"""What an image's bytes really are, found while they stream: never trust a declared format."""
