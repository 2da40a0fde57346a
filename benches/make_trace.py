"""Captures for benchmarks and memory tests: whole TCP connections, interleaved, of any number of packets."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

#: Captured bytes of a packet: Ethernet, IPv4 and TCP headers. Payloads are in the lengths only, as with a snaplen.
SNAPLEN = 54
REQUEST, RESPONSE = 100, 1000
SYN, ACK, PSH, FIN = 2, 16, 8, 1
_CHUNK = 200_000

_RECORD = np.dtype(
    [
        ("sec", "<u4"),
        ("usec", "<u4"),
        ("caplen", "<u4"),
        ("len", "<u4"),
        ("macs", "V12"),
        ("ethertype", ">u2"),
        ("version", "u1"),
        ("tos", "u1"),
        ("total", ">u2"),
        ("ident", ">u4"),
        ("ttl", "u1"),
        ("proto", "u1"),
        ("checksum", ">u2"),
        ("src", ">u4"),
        ("dst", ">u4"),
        ("sport", ">u2"),
        ("dport", ">u2"),
        ("seq", ">u4"),
        ("ack", ">u4"),
        ("offset", "u1"),
        ("flags", "u1"),
        ("window", ">u2"),
        ("urgent", ">u4"),
    ]
)


def write_trace(path: Path, packets: int, connections: int, per_second: int = 50_000, elephant: float = 0) -> None:
    """Write `packets` packets of `connections` connections that run side by side, a few of them at any packet.

    Each connection is a handshake, requests of 100 and responses of 1000 bytes in turn, and FINs of both ends. A share
    of the connections (`elephant`) is between one pair of addresses.
    """
    rounds = packets // connections
    if rounds < 6:
        raise ValueError(f"{packets} packets are too few for {connections} connections: 6 each at least")
    with path.open("wb") as out:
        out.write(np.array([0xA1B2C3D4, 0x00040002, 0, 0, SNAPLEN, 1], "<u4").tobytes())
        for start in range(0, rounds * connections, _CHUNK):
            number = np.arange(start, min(start + _CHUNK, rounds * connections))
            out.write(_records(number, connections, rounds, per_second, elephant).tobytes())


def _records(number: np.ndarray, connections: int, rounds: int, per_second: int, elephant: float) -> np.ndarray:
    turn, who = np.divmod(number, connections)
    # Turn 0 to 2 are the handshake, the last two the FINs, and between them requests (odd) and responses (even).
    data = (turn >= 3) & (turn < rounds - 2)
    reply = (turn == 1) | (data & (turn % 2 == 0)) | (turn == rounds - 1)
    payload = np.where(data, np.where(reply, RESPONSE, REQUEST), 0)
    done = np.clip(np.minimum(turn, rounds - 2) - 3, 0, None)
    requested, responded = (done + 1) // 2 * REQUEST, done // 2 * RESPONSE
    orig = who * 7 + 1 + requested + (turn > 0) + (turn > rounds - 2)
    resp = who * 11 + 1 + responded + (turn > 1)
    flags = np.select(
        [turn == 0, turn == 1, turn >= rounds - 2], [SYN, SYN | ACK, FIN | ACK], np.where(data, PSH | ACK, ACK)
    )

    made = np.zeros(len(number), _RECORD)
    made["sec"], made["usec"] = 1_700_000_000 + number // per_second, number % per_second * (1_000_000 // per_second)
    made["caplen"], made["len"] = SNAPLEN, SNAPLEN + payload
    made["ethertype"], made["version"], made["total"], made["ttl"], made["proto"] = 0x0800, 0x45, 40 + payload, 64, 6
    client, server = 0x0A000000 + who // 50_000 * 65_536 + who % 50_000, 0x5DB80000 + who % 1000
    one = who % 100 < elephant * 100
    client, server = np.where(one, 0x0A000000, client), np.where(one, 0x5DB80000, server)
    made["src"], made["dst"] = np.where(reply, server, client), np.where(reply, client, server)
    port = 1024 + who % 60_000
    made["sport"], made["dport"] = np.where(reply, 443, port), np.where(reply, port, 443)
    made["seq"], made["ack"] = np.where(reply, resp, orig), np.where(turn == 0, 0, np.where(reply, orig, resp))
    made["offset"], made["flags"], made["window"] = 0x50, flags, 64_000
    return made


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path)
    parser.add_argument("--packets", type=int, default=1_000_000)
    parser.add_argument("--connections", type=int, default=50_000)
    parser.add_argument("--elephant", type=float, default=0, help="share of the connections between one pair")
    given = parser.parse_args()
    write_trace(given.path, given.packets, given.connections, elephant=given.elephant)
