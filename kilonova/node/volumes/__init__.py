"""Volume backends: where volumes live and how a host reaches them."""
