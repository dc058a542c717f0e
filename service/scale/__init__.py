"""More than one process and more than one machine: what the plain service neither imports nor needs."""
