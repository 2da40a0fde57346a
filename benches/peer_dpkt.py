"""A typical script with dpkt: the initiator, egress or not, TCP's state, counters, a timeout."""

from __future__ import annotations

import sys
from ipaddress import ip_address, ip_network

import dpkt

LOCAL = [ip_network(text) for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "2001:db8::/32", "fc00::/7")]
UDP_TIMEOUT = 120.0
SYN, ACK, FIN, RST = dpkt.tcp.TH_SYN, dpkt.tcp.TH_ACK, dpkt.tcp.TH_FIN, dpkt.tcp.TH_RST


class Flow:
    """A connection, from its first packet on."""

    __slots__ = ("counts", "egress", "end", "fins", "initiator", "start", "state")

    def __init__(self, initiator: bytes, start: float) -> None:
        self.initiator = initiator
        address = ip_address(initiator)
        self.egress = any(address in network for network in LOCAL)
        self.start = self.end = start
        self.state = "NEW"
        self.fins = 0
        self.counts = [0, 0, 0, 0]


def track(path: str) -> list[Flow]:
    """The connections of a capture, in the order of their ends."""
    live: dict[tuple[object, ...], Flow] = {}
    done: list[Flow] = []
    with open(path, "rb") as file:
        for now, frame in dpkt.pcap.Reader(file):
            packet = dpkt.ethernet.Ethernet(frame).data
            if not isinstance(packet, dpkt.ip.IP | dpkt.ip6.IP6):
                continue
            segment = packet.data
            tcp = isinstance(segment, dpkt.tcp.TCP)
            ports = (segment.sport, segment.dport) if tcp or isinstance(segment, dpkt.udp.UDP) else (0, 0)
            source, destination = (packet.src, ports[0]), (packet.dst, ports[1])
            protocol = packet.nxt if isinstance(packet, dpkt.ip6.IP6) else packet.p
            key = (protocol, *((source, destination) if source < destination else (destination, source)))
            flow = live.get(key)
            if flow is not None and not tcp and now - flow.end > UDP_TIMEOUT:
                done.append(live.pop(key))
                flow = None
            if flow is None:
                answers = tcp and segment.flags & (SYN | ACK) == SYN | ACK
                flow = live[key] = Flow(packet.dst if answers else packet.src, now)
            reply = packet.src != flow.initiator
            flow.end = now
            flow.counts[2 * reply] += 1
            flow.counts[2 * reply + 1] += len(frame)
            if tcp:
                advance(flow, segment.flags, reply)
                if flow.state == "CLOSED":
                    done.append(live.pop(key))
            elif reply:
                flow.state = "ANSWERED"
    return done + list(live.values())


def advance(flow: Flow, flags: int, reply: bool) -> None:
    """TCP's state after a segment."""
    if flags & RST:
        flow.state = "CLOSED"
    elif flags & SYN:
        flow.state = "SYN_RECV" if flags & ACK else "SYN_SENT"
    elif flags & FIN:
        flow.fins |= 1 << reply
        flow.state = "CLOSING"
    elif flow.fins == 3:
        flow.state = "CLOSED"
    else:
        flow.state = "ESTABLISHED"


if __name__ == "__main__":
    print(len(track(sys.argv[1])))
