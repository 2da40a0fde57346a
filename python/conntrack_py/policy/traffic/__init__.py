"""Traffic as policies see it: pairs of hosts, their roles and what servers initiate."""
