"""Copies that an API process keeps of images whose stores are elsewhere."""
