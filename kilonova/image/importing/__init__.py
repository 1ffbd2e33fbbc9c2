"""Imports: data that comes from elsewhere, kept in one or several stores by an operation of the image workers."""
