"""What compute must hear of ports: a row first, a message second."""
