"""Enums of the fields of `labels`.

They mirror the lists of the Rust core (`conntrack_py._native.WORDS`); a test compares the two.
"""

from __future__ import annotations

from enum import IntEnum


class CtState(IntEnum):
    """Conntrack state of a packet (`ctstate` of nf_conntrack)."""

    NEW = 0
    """It opened an entry, or its entry has seen no reply yet."""
    ESTABLISHED = 1
    """Its entry has seen packets in both directions."""
    RELATED = 2
    """An ICMP error about an entry."""
    INVALID = 3
    """It belongs to no entry and may not open one, or it contradicts its entry."""
    UNTRACKED = 4
    """Not looked at: no IP, or neighbour discovery."""


class CtDir(IntEnum):
    """A packet's direction within the entry of a Linux gateway."""

    ORIGINAL = 0
    """Sent by the end whose packet made the entry."""
    REPLY = 1
    """Sent by the other end."""
    NONE = 2
    """There is no entry."""


class Direction(IntEnum):
    """A connection's direction, from its initiator alone, seen from the local networks."""

    NONE = 0
    """No connection."""
    EGRESS = 1
    """The originator is local, the responder is not."""
    INGRESS = 2
    """The responder is local, the originator is not."""
    INTERNAL = 3
    """Both are local."""
    TRANSIT = 4
    """Neither is local."""
    MULTICAST = 5
    """The responder is a multicast or broadcast address."""


class State(IntEnum):
    """A connection's state in the words of nf_conntrack."""

    NONE = 0
    """A gateway would hold no entry."""
    SYN_SENT = 1
    SYN_RECV = 2
    ESTABLISHED = 3
    FIN_WAIT = 4
    CLOSE_WAIT = 5
    LAST_ACK = 6
    TIME_WAIT = 7
    CLOSE = 8
    SYN_SENT2 = 9
    CLOSED = 10
    COOKIE_WAIT = 11
    COOKIE_ECHOED = 12
    SHUTDOWN_SENT = 13
    SHUTDOWN_RECD = 14
    SHUTDOWN_ACK_SENT = 15
    HEARTBEAT_SENT = 16
    UNREPLIED = 17
    """UDP and others: one end has sent."""
    REPLIED = 18
    """UDP and others: both ends have sent."""
    ASSURED = 19
    """UDP and others: a stream, which is kept when the table is full."""


class Verdict(IntEnum):
    """Verdict of a policy on a connection."""

    ALLOWED = 0
    """The groups of both ends allow it, or there are none."""
    REFUSED_EGRESS = 1
    """A group of the originator does not let it initiate this."""
    REFUSED_INGRESS = 2
    """A group of the responder does not let this be initiated towards it."""
    REFUSED_BOTH = 3
    """Neither allows it."""
    RELATED = 4
    """An ICMP error about a connection, or what one announced to a rule's helper: it passes if that does."""
    INVALID = 5
    """An ICMP error about nothing that is known: a gateway drops it."""


class Fate(IntEnum):
    """Fate of a packet at a gateway with a policy."""

    ACCEPTED = 0
    """It opens an entry, or belongs to one."""
    REFUSED = 1
    """It would open an entry, and no rule allows it."""
    INVALID = 2
    """It may open no entry, or contradicts its own; it is dropped."""
    UNTRACKED = 3
    """It is not tracked, and passes: no IP, neighbour discovery."""
