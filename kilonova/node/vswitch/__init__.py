"""The network machinery of a host: bridges, tunnels, taps, security groups, DHCP, routers, metadata; real and fake."""
