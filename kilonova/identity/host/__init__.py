"""Hosts of a cluster as identity knows them: invitations, and the service user of each host's agents."""
