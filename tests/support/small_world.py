"""Traffic of few hosts and ports, so that a listener, a role or an announcement of one pair of hosts decides another."""

from __future__ import annotations

import random

from support.packets import ACK, FIN, PSH, RST, SYN, Packet, arp, tcp, udp

HOSTS = ("10.0.0.1", "10.0.0.2", "10.0.0.3", "192.168.7.4", "203.0.113.5", "198.51.100.6")
PORTS = (21, 53, 80, 162, 514, 3000, 5000, 5060, 8080, 33000, 40000, 40001, 50000, 50123)
GROUPS = ("239.255.255.250", "224.0.0.251", "255.255.255.255")
#: Seconds between two packets: within an exchange, beyond the UDP timeout, beyond a pause of all traffic.
PAUSES = (0.001,) * 40 + (1.0, 1.0, 20.0, 45.0, 200.0, 700.0)
Ends = tuple[str, int, str, int]


def _turned(ends: Ends) -> Ends:
    return ends[2], ends[3], ends[0], ends[1]


def _accepted(ends: Ends) -> list[bytes]:
    frames = [tcp(*ends, SYN, 1), tcp(*_turned(ends), SYN | ACK, 9, 2), tcp(*ends, ACK, 2, 10)]
    return [*frames, tcp(*_turned(ends), FIN | ACK, 10, 2), tcp(*ends, FIN | ACK, 2, 11)]


def _announced(rng: random.Random, ends: Ends) -> list[bytes]:
    """A server of FTP sends the client elsewhere, where data then comes from."""
    client, sport, server, _ = ends
    control = (client, sport, server, 21)
    other, port = rng.choice([server, rng.choice(HOSTS[:3])]), rng.choice(PORTS[5:])
    text = f"227 Entering Passive Mode ({other.replace('.', ',')},{port >> 8},{port & 255}).\r\n".encode()
    said = tcp(*_turned(control), PSH | ACK, 50, 60, text)
    data = (client, rng.choice(PORTS[9:]), other, port)
    middle = [tcp(*_turned(data), ACK | PSH, 7, 8, b"d" * 9), tcp(*data, ACK | PSH, 8, 16, b"e")]
    return [said, *rng.sample(middle, rng.randint(0, 2))]


def _asked(rng: random.Random, ends: Ends) -> list[bytes]:
    """A question to a group, and answers from any port of any host."""
    asker, port = ends[0], rng.choice([ends[1], 1900])
    group = rng.choice(GROUPS)
    frames = [udp(asker, port, group, rng.choice([1900, 5353, 30303]), b"who")]
    for answerer in rng.sample(HOSTS, rng.randint(0, 3)):
        if answerer != asker:
            frames.append(udp(answerer, rng.choice(PORTS[5:]), asker, port, b"I"))
    return frames


def conversation(rng: random.Random) -> list[bytes]:
    """The frames of one conversation, often captured from its middle on."""
    src, dst = rng.sample(HOSTS, 2)
    ends = (src, rng.choice(PORTS), dst, rng.choice(PORTS))
    back = _turned(ends)
    match rng.randrange(10):
        case 0 | 1:
            return _accepted(ends)
        case 2 | 3:
            both = [tcp(*ends, ACK | PSH, 5, 5, b"m" * 30), tcp(*back, ACK | PSH, 5, 35, b"n")]
            return [rng.choice(both) for _ in range(rng.randint(1, 3))]
        case 4 | 5:
            return [udp(*rng.choice([ends, back]), b"u" * rng.randint(1, 20)) for _ in range(rng.randint(1, 3))]
        case 6:
            return _announced(rng, ends)
        case 7:
            return _asked(rng, ends)
        case 8:
            flags = rng.choice([SYN | ACK, RST, RST | ACK, FIN, 0, ACK])
            return [tcp(*ends, flags, 3, 4), tcp(*back, rng.choice([RST, ACK]), 4, 4)][: rng.randint(1, 2)]
        case _:
            return [arp()]


def story(seed: int, conversations: int = 60) -> list[Packet]:
    """Conversations one after the other, with pauses."""
    rng = random.Random(seed)
    told: list[Packet] = []
    at = 0.0
    for _ in range(conversations):
        for frame in conversation(rng):
            told.append((at, frame))
            at += rng.choice(PAUSES)
    return told
