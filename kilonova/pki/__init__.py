"""Certificates: an authority of one's own, what it signs, and TLS settings made of them."""
