"""Networks: a layer 2 of its own for a project, or one that projects share, or the way outside."""
