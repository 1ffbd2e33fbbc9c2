"""OAuth 1.0a: a consumer acts for a user with the roles that the user authorized."""
