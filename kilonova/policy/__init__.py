"""Policy: the field's rule language, compiled; defaults, overrides, scopes and personas."""
