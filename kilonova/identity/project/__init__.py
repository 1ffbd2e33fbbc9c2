"""Projects: what owns servers, networks and volumes."""
