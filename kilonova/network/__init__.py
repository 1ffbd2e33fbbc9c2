"""Network (Neutron): networks, subnets, ports, routers, floating IPs, security groups."""
