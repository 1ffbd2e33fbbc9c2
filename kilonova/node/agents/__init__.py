"""The agents of a host: they fetch what is wanted, make their host so through a port, and report."""
