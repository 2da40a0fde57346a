"""Policies for firewalls between networks that have one ordered list of rules, and objects for their ends."""
