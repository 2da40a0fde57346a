"""Packets that pass the interfaces of this machine (Linux)."""
