"""Federation: users of an OpenID Connect provider log in with its access tokens, as mappings say."""
