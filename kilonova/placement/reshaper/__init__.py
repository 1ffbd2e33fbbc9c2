"""The reshaper: inventories and what is held of them move between providers in one request."""
