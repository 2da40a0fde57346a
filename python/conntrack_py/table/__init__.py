"""Finished connections: the table, its rows, and files of any number of tables."""

from conntrack_py.table.anonymise import Anonymiser
from conntrack_py.table.connections import ConnectionTable
from conntrack_py.table.row import ALL_COLUMNS, EVIDENCE, Connection
from conntrack_py.table.writer import ConnectionWriter

__all__ = ("ALL_COLUMNS", "EVIDENCE", "Anonymiser", "Connection", "ConnectionTable", "ConnectionWriter")
