"""Policies for the firewall of one host: firewalld, ufw and Windows."""
