"""A real gateway: network namespaces, nftables, sockets, and the kernel's own account of its translations.

    python tests/support/gateway.py lab DIRECTORY RULES SEED CONNECTIONS

Two hosts inside on a bridge, a gateway with RULES, and a server outside. The captures of both sides and what
`conntrack -E` said are in DIRECTORY afterwards. The other first arguments are the processes of the laboratory.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

LAN, WAN, SERVER = "192.168.50.1", "198.51.100.1", "198.51.100.2"
HOSTS = ("192.168.50.11", "192.168.50.12")
FORWARDED, CONE = (8080, 8443), (40000, 49999)
_CLONE_NEWNET = 0x40000000
_SO_TIMESTAMPNS = 35

_FORWARD = f"""
chain pre {{
  type nat hook prerouting priority -100
  ip daddr {WAN} tcp dport {FORWARDED[0]} dnat to {HOSTS[0]}:80
  ip daddr {WAN} udp dport {FORWARDED[1]} dnat to {HOSTS[1]}:7000
  iifname "wan" udp dport {CONE[0]}-{CONE[1]} dnat to {HOSTS[0]}
}}
"""


def _table(chains: str, rules: str) -> str:
    return f"table ip nat {{\n{chains}\nchain post {{\n type nat hook postrouting priority 100\n {rules}\n}}\n}}\n"


#: Rulesets of nftables by name. `cone` sends what comes to a range of ports to one host, whoever sent it.
RULES = {
    "random": _table("", 'oifname "wan" masquerade random'),
    "keep": _table("", 'oifname "wan" masquerade'),
    "cone": _table(
        _FORWARD,
        f'oifname "lan" ip saddr 192.168.50.0/24 snat to {LAN}\n'
        f'oifname "wan" udp sport {CONE[0]}-{CONE[1]} snat to {WAN}\noifname "wan" masquerade random',
    ),
}


def refusal() -> str | None:
    """Why this machine has no such laboratory; None if it has."""
    if not sys.platform.startswith("linux"):
        return "needs network namespaces, which Linux has"
    if os.geteuid() != 0:
        return "needs root, for network namespaces"
    for program in ("ip", "nft", "conntrack", "nsenter", "unshare"):
        if shutil.which(program) is None:
            return f"needs {program}"
    if subprocess.run(["unshare", "-n", "true"], capture_output=True).returncode != 0:
        return "needs the right to make network namespaces"
    probe = "nft add table ip nat && nft add chain ip nat p '{ type nat hook postrouting priority 100; }'"
    if subprocess.run(["unshare", "-n", "sh", "-c", probe], capture_output=True).returncode != 0:
        return "needs a kernel with NAT in nftables"
    return None


def run(directory: Path, rules: str, seed: int, connections: int) -> None:
    """Run the laboratory in a process of its own."""
    arguments = [sys.executable, __file__, "lab", str(directory), rules, str(seed), str(connections)]
    subprocess.run(arguments, check=True, timeout=120)


def lose(source: Path, target: Path, rng: random.Random, loss: float, skew: float = 0.0, drift: float = 0.0) -> None:
    """Copy a capture without some of its packets, as another clock has it."""
    data = source.read_bytes()
    out, at, first = [data[:24]], 24, None
    while at < len(data):
        whole, part, size, length = struct.unpack_from("<IIII", data, at)
        now = whole * 10**9 + part
        first = now if first is None else first
        now += int(skew * 1e9 + drift * (now - first))
        if rng.random() >= loss:
            out += [struct.pack("<IIII", now // 10**9, now % 10**9, size, length), data[at + 16 : at + 16 + size]]
        at += 16 + size
    target.write_bytes(b"".join(out))


Tuple = tuple[str, str, int, str, int]


def translations(log: str) -> list[tuple[Tuple, Tuple]]:
    """The original tuple and the one behind the translation, of entries and NEW events. ICMP has the id as ports."""
    found = []
    for line in log.splitlines():
        if "[UPDATE]" in line or "[DESTROY]" in line:
            continue
        words = line.split()
        proto = next((word for word in words if word in ("tcp", "udp", "icmp")), None)
        if proto is None:
            continue
        pairs = [word.split("=", 1) for word in words if "=" in word]
        names = ["src", "dst", *(("id", "id") if proto == "icmp" else ("sport", "dport"))]
        values = {name: [value for key, value in pairs if key == name] for name in names}
        tuples = []
        for place in (0, 1):
            src, dst = values["src"][place], values["dst"][place]
            ports = [int(values[name][place]) for name in names[2:]]
            tuples.append((proto, src, ports[0], dst, ports[1]))
        _, src, sport, dst, dport = tuples[1]
        found.append((tuples[0], (proto, dst, dport, src, sport)))
    return found


def _unshare() -> None:
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "unshare")


def _sh(command: str) -> None:
    subprocess.run(["sh", "-ec", command], check=True)


def _lab(directory: Path, rules: str, seed: int, connections: int) -> None:
    _unshare()
    with contextlib.ExitStack() as stack:

        def start(*command: str, at: int | None = None, **more: object) -> subprocess.Popen[bytes]:
            inside = [] if at is None else ["nsenter", "-t", str(at), "-n"]
            made = stack.enter_context(subprocess.Popen([*inside, *command], **more))  # type: ignore[call-overload]
            stack.callback(made.kill)
            return made  # type: ignore[no-any-return]

        holders = [start("unshare", "-n", "sleep", "300").pid for _ in range(3)]
        own = os.readlink("/proc/self/ns/net")
        while any(os.readlink(f"/proc/{pid}/ns/net") == own for pid in holders):
            time.sleep(0.01)
        _sh("ip link set lo up; ip link add lan type bridge; ip link set lan up; sysctl -qw net.ipv4.ip_forward=1")
        # Else what a bridge forwards is translated before it reaches the interface whose packets are captured.
        _sh("sysctl -qw net.bridge.bridge-nf-call-iptables=0 2> /dev/null || true")
        _sh(f"ip addr add {LAN}/24 dev lan")
        for number, (pid, address) in enumerate(zip(holders, (*HOSTS, SERVER), strict=True)):
            here = "wan" if number == 2 else f"port{number}"
            gateway = WAN if number == 2 else LAN
            _sh(f"ip link add {here} type veth peer name eth0 netns {pid}; ip link set {here} up")
            _sh(f"ip addr add {WAN}/24 dev wan" if number == 2 else f"ip link set {here} master lan")
            _sh(
                f"nsenter -t {pid} -n sh -ec 'ip link set lo up; ip addr add {address}/24 dev eth0;"
                f" ip link set eth0 up; ip route add default via {gateway}'"
            )
        subprocess.run(["nft", "-f", "-"], input=RULES[rules].encode(), check=True)
        log = stack.enter_context((directory / "conntrack.log").open("wb"))
        events = start("conntrack", "-E", "-b", "8388608", "-o", "timestamp,extended,id", stdout=log)
        records = [start(sys.executable, __file__, "record", name, str(directory / f"{side}.pcap"))
                   for name, side in (("lan", "inside"), ("wan", "outside"))]  # fmt: skip
        for pid, address in zip(holders, (*HOSTS, SERVER), strict=True):
            start(sys.executable, __file__, "serve", address, at=pid)
        time.sleep(1.2)
        share = str(connections // 3)
        speakers = [
            start(sys.executable, __file__, "speak", who, rules, str(seed + number), share, at=pid)
            for number, (pid, who) in enumerate(zip(holders, (*HOSTS, SERVER), strict=True))
        ]
        for one in speakers:
            if one.wait(90) != 0:
                raise RuntimeError("a speaker failed")
        time.sleep(0.4)
        # The kernel drops events where the reader is slow; its table still has every entry.
        with (directory / "table.log").open("wb") as table:
            subprocess.run(["conntrack", "-L", "-o", "extended,id"], stdout=table, check=True)
        for one in (events, *records):
            one.send_signal(signal.SIGTERM)
            one.wait(10)


def _record(interface: str, path: str) -> None:
    """Write what passes an interface to a capture until SIGTERM."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    frames = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    frames.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 26)
    frames.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    frames.bind((interface, 3))
    with open(path, "wb", buffering=1 << 20) as file:
        file.write(struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 1 << 16, 1))
        while True:
            frame, more, _, _ = frames.recvmsg(1 << 16, 64)
            whole, part = struct.unpack("qq", more[0][2][:16])
            file.write(struct.pack("<IIII", whole, part, len(frame), len(frame)) + frame)


def _serve(address: str) -> None:
    """Answer: TCP on 80 and 443 in kind, UDP on 7000 with what came, on 53 as a server of names."""

    def tcp(port: int) -> None:
        listening = socket.create_server((address, port), backlog=500)
        while True:
            served, _ = listening.accept()
            threading.Thread(target=converse, args=(served,), daemon=True).start()

    def converse(served: socket.socket) -> None:
        with served, contextlib.suppress(OSError):
            while data := served.recv(4096):
                served.sendall(os.urandom(len(data)))

    def udp(port: int) -> None:
        bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        bound.bind((address, port))
        while True:
            data, peer = bound.recvfrom(4096)
            bound.sendto(data[:2] + b"\x81\x80" + data[4:] if port == 53 else data, peer)

    for serve, port in ((tcp, 80), (tcp, 443), (udp, 7000), (udp, 53)):
        threading.Thread(target=serve, args=(port,), daemon=True).start()
    time.sleep(200)


def _speak(who: str, rules: str, seed: int, connections: int) -> None:
    """Open connections of every kind, one after another, in four threads."""
    rng = random.Random(seed)
    raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    plans = [rng.randrange(1 << 60) for _ in range(connections)]

    def work(part: list[int]) -> None:
        for plan in part:
            with contextlib.suppress(OSError):
                _one(random.Random(plan), who, rules, raw)

    threads = [threading.Thread(target=work, args=(plans[place::4],)) for place in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _one(rng: random.Random, who: str, rules: str, raw: socket.socket) -> None:
    kind, target = rng.random(), SERVER
    if who == SERVER or (rules == "cone" and kind < 0.15):
        # From outside, or from inside to the address outside.
        if rules != "cone":
            return
        kind, target = rng.random(), WAN
        if kind < 0.4:
            _tcp(rng, (target, FORWARDED[0]), 0)
        elif kind < 0.7 or who != SERVER:
            _udp(rng, (target, FORWARDED[1]), 0)
        else:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as told:
                told.sendto(rng.randbytes(40), (target, rng.randint(*CONE)))
        return
    if kind < 0.45:
        # Both hosts choose from the same few ports where the gateway keeps them.
        _tcp(rng, (target, rng.choice((80, 443))), rng.randint(20000, 21000) if rules == "keep" else 0)
    elif kind < 0.9:
        own = rng.randint(*CONE) if rules == "cone" and who == HOSTS[0] and kind < 0.55 else 0
        _udp(rng, (target, 53 if kind < 0.7 else 7000), own)
    else:
        # Identifiers and sequence numbers alike on both hosts.
        number = rng.randrange(1, 400)
        head = struct.pack(">BBHHH", 8, 0, 0, number, 1)
        content = struct.pack("<dQ", time.time(), rng.randrange(1 << 20)) + bytes(range(16, 48))
        raw.sendto(_summed(head + content), (target, 0))
        time.sleep(0.005)


def _summed(message: bytes) -> bytes:
    total = sum(struct.unpack(f">{len(message) // 2}H", message))
    total = (total & 0xFFFF) + (total >> 16)
    return message[:2] + struct.pack(">H", ~(total + (total >> 16)) & 0xFFFF) + message[4:]


def _tcp(rng: random.Random, target: tuple[str, int], port: int) -> None:
    with socket.socket() as client:
        client.settimeout(3)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        client.bind(("", port))
        client.connect(target)
        for _ in range(rng.randint(1, 3)):
            client.sendall(rng.randbytes(rng.randint(10, 900)))
            client.recv(4096)


def _udp(rng: random.Random, target: tuple[str, int], port: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(0.5)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        client.bind(("", port))
        if rng.random() < 0.5:
            client.connect(target)
        if target[1] == 53:
            name = f"host{min(int(rng.paretovariate(0.8)), 60)}".encode()
            question = bytes([len(name)]) + name + b"\7example\3com\0\0\1\0\1"
            payload = struct.pack(">HHHHHH", rng.randrange(65536), 0x0100, 1, 0, 0, 0) + question
        else:
            payload = b"ping" if rng.random() < 0.25 else rng.randbytes(rng.randint(12, 400))
        client.sendto(payload, target) if client.getsockname()[0] == "0.0.0.0" else client.send(payload)
        client.recv(4096)


if __name__ == "__main__":
    role, *rest = sys.argv[1:]
    if role == "lab":
        _lab(Path(rest[0]), rest[1], int(rest[2]), int(rest[3]))
    elif role == "record":
        _record(rest[0], rest[1])
    elif role == "serve":
        _serve(rest[0])
    else:
        _speak(rest[0], rest[1], int(rest[2]), int(rest[3]))
