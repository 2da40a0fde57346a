"""Random rulesets of nftables and iptables, and captures of connections that they are about."""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Callable

from support.packets import echo, evenly, pcap_bytes, tcp, udp

V4 = [f"10.0.{net}.{host}" for net in (1, 2, 3) for host in (5, 6, 130)] + ["192.0.2.9", "198.51.100.7"]
V6 = ["2001:db8:1::5", "2001:db8:1::6", "2001:db8:2::9", "fd00::7"]
PORTS = [22, 25, 53, 80, 443, 3306, 8080, 8443]
SYN, ACK = 2, 16


def capture(seed: int, connections: int = 90) -> bytes:
    """Connections with different ends, of which most are answered."""
    choose = random.Random(seed)
    frames: list[bytes] = []
    for number in range(connections):
        pool = V6 if choose.random() < 0.2 else V4
        orig, resp = choose.sample(pool, 2)
        sport, dport = 20_000 + number, choose.choice(PORTS)
        kind = choose.choice(["tcp", "tcp", "udp", "icmp"])
        answered = choose.random() < 0.7
        if kind == "tcp":
            frames.append(tcp(orig, sport, resp, dport, SYN, 100, 0))
            if answered:
                frames.append(tcp(resp, dport, orig, sport, SYN | ACK, 500, 101))
        elif kind == "udp" or pool is V6:
            frames.append(udp(orig, sport, resp, dport, b"question"))
            if answered:
                frames.append(udp(resp, dport, orig, sport, b"answer"))
        else:
            frames.append(echo(orig, resp, 8, number))
            if answered:
                frames.append(echo(resp, orig, 0, number))
    return pcap_bytes(evenly(frames))


def _network(choose: random.Random, pool: list[str]) -> str:
    address = ipaddress.ip_address(choose.choice(pool))
    length = choose.choice([address.max_prefixlen, address.max_prefixlen, 24 if address.version == 4 else 48])
    network = ipaddress.ip_network(f"{address}/{length}", strict=False)
    return str(network) if length != address.max_prefixlen else str(address)


def _of_one_protocol(words: list[str]) -> list[str]:
    """Conditions without those that nft refuses beside another: of two protocols, or of two versions of IP."""
    names = ("tcp", "udp", "icmp", "l4proto", "ip ", "ip6 ", "nfproto")
    kept: list[str] = []
    taken = False
    for word in words:
        about = any(name in word for name in names)
        if not (about and taken):
            kept.append(word)
        taken = taken or about
    return kept


def nftables(seed: int) -> str:
    """A gateway's ruleset with two chains at the hook, some that are jumped to, sets, maps and negations."""
    choose = random.Random(seed)
    sub = ["one", "two", "three"]

    def addresses() -> str:
        family, pool = ("ip6", V6) if choose.random() < 0.2 else ("ip", V4)
        end = choose.choice(["saddr", "daddr"])
        kind = choose.randrange(4)
        if kind == 0:
            listed = ", ".join({_network(choose, pool).partition("/")[0] for _ in range(3)})
            return f"{family} {end} {choose.choice(['', '!= '])}{{ {listed} }}"
        if kind == 1 and family == "ip":
            low, high = sorted((ipaddress.ip_address(choose.choice(V4)), ipaddress.ip_address(choose.choice(V4))))
            return f"ip {end} {low}-{high}" if low != high else f"ip {end} {low}"
        if kind == 2 and family == "ip":
            return f"ip {end} @named"
        return f"{family} {end} {choose.choice(['', '', '!= '])}{_network(choose, pool)}"

    def ports() -> str:
        proto = choose.choice(["tcp", "tcp", "udp", "th"])
        proto = "meta l4proto { tcp, udp } th" if proto == "th" else proto
        end = choose.choice(["dport", "dport", "dport", "sport"])
        port = choose.choice(PORTS) if end == "dport" else choose.randint(20_000, 20_080)
        listed = ", ".join(map(str, sorted({port, *choose.sample(PORTS, 3)})))
        return f"{proto} {end} " + choose.choice(
            [str(port), f"!= {port}", f"{port}-{port + 500}", f"{{ {listed} }}", f">= {port}", f"< {port}"]
        )

    more: list[Callable[[], str]] = [
        addresses,
        addresses,
        ports,
        ports,
        lambda: choose.choice(["ct state new", "ct state established,related", "ct state != new", "ct state invalid"]),
        lambda: choose.choice(
            ["icmp type echo-request", "icmp type { echo-reply, echo-request }", "meta l4proto icmp"]
        ),
        lambda: choose.choice(["meta nfproto ipv4", "meta nfproto ipv6", "ip protocol tcp", "meta l4proto udp"]),
        lambda: choose.choice(['iifname "br0"', 'oifname != "br0"', 'iifname "eth9"', 'iifname { "br0", "eth9" }']),
        lambda: "tcp flags & (fin | syn | rst | ack) == syn",
        lambda: "ip saddr . tcp dport { 10.0.1.5 . 443, 10.0.2.6 . 22, 10.0.3.5 . 80 }",
        lambda: choose.choice(["limit rate 1/hour", "meta mark 7"]),
    ]

    def rule(jumps: list[str]) -> str:
        words = _of_one_protocol([one() for one in choose.sample(more, choose.choice([0, 1, 1, 2, 2, 3]))])
        if choose.random() < 0.1:
            key = choose.choice(["tcp dport", "meta l4proto", "ct state"])
            values = {"tcp dport": ["22", "443"], "meta l4proto": ["tcp", "icmp"], "ct state": ["new", "established"]}
            verdicts = choose.sample(["accept", "drop", *(f"jump {name}" for name in jumps)], 2)
            pairs = ", ".join(f"{value} : {word}" for value, word in zip(values[key], verdicts, strict=True))
            return f"{key} vmap {{ {pairs} }}"
        ends = ["accept", "accept", "accept", "drop", "reject", "counter", "return"]
        ends += [f"{word} {name}" for name in jumps for word in ("jump", "jump", "goto")]
        return " ".join([*words, choose.choice(ends if words else ends[-len(jumps) * 3 :] if jumps else ["counter"])])

    chains = []
    for place in range(len(sub) - 1, -1, -1):
        rules = "\n    ".join(rule(sub[place + 1 :]) for _ in range(choose.randint(1, 5)))
        chains.append(f"  chain {sub[place]} {{\n    {rules}\n  }}")
    for name, priority in (("early", -10), ("late", 10)):
        policy = choose.choice(["accept", "drop"]) if name == "late" else "accept"
        count = choose.randint(3, 9) if name == "late" else choose.randint(0, 2)
        state = ["ct state established,related accept"] if choose.random() < 0.7 else []
        rules = "\n    ".join([*state, *(rule(sub) for _ in range(count))])
        head = f"type filter hook forward priority {priority}; policy {policy};"
        chains.append(f"  chain {name} {{\n    {head}\n    {rules}\n  }}")
    named = "  set named {\n    type ipv4_addr; flags interval;\n    elements = { 10.0.1.0/25, 198.51.100.7 }\n  }"
    return "\n".join(["table inet filter {", named, *chains, "}", ""])


def iptables(seed: int) -> str:
    """A gateway's save, with chains that are jumped to, and a table mangle."""
    choose = random.Random(seed)

    def condition() -> str:
        port = choose.choice(PORTS)
        proto = choose.choice(["tcp", "udp"])
        many = ",".join(map(str, choose.sample(PORTS, 3)))
        return choose.choice(
            [
                f"{choose.choice(['', '! '])}-s {_network(choose, V4)}",
                f"{choose.choice(['', '! '])}-d {_network(choose, V4)}",
                f"-p {proto} -m {proto} --dport {port}",
                f"-p {proto} -m {proto} ! --dport {port}",
                f"-p {proto} -m {proto} --dport {port}:{port + 400}",
                f"-p {proto} -m multiport --dports {many}",
                f"-p {proto} -m {proto} --sport {20_000 + port % 80}:20090",
                "-p icmp -m icmp --icmp-type 8",
                "-p icmp",
                "-p tcp -m tcp --syn",
                "-p tcp -m tcp ! --syn",
                "-m conntrack --ctstate NEW",
                "-m conntrack --ctstate RELATED,ESTABLISHED",
                "-m state --state INVALID",
                "-i br0",
                "! -i br0",
                "-o eth+",
                "-m limit --limit 1/hour",
                "-m mark --mark 0x7",
            ]
        )

    def rule(chain: str, jumps: list[str]) -> str:
        words = [condition() for _ in range(choose.choice([0, 1, 1, 1, 2]))]
        if sum(word.startswith("-p") for word in words) > 1 or len(
            {word.removeprefix("! ").split()[0] for word in words}
        ) < len(words):
            words = words[:1]
        ends = ["ACCEPT", "ACCEPT", "DROP", "RETURN", "REJECT", "LOG", *jumps, *jumps]
        target = choose.choice(ends if words else ["LOG", *jumps])
        jump = "-g" if target in jumps and choose.random() < 0.2 else "-j"
        return " ".join(["-A", chain, *words, jump, target])

    lines = ["# Generated by iptables-save", "*mangle", ":FORWARD ACCEPT [0:0]"]
    lines += [rule("FORWARD", []).replace("REJECT", "DROP") for _ in range(choose.randint(0, 2))]
    policy = choose.choice(["ACCEPT", "DROP"])
    lines += ["COMMIT", "*filter", ":INPUT ACCEPT [0:0]", f":FORWARD {policy} [0:0]", ":A - [0:0]", ":B - [0:0]"]
    if choose.random() < 0.7:
        lines.append("-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT")
    lines += [rule("FORWARD", ["A", "B"]) for _ in range(choose.randint(3, 9))]
    lines += [rule("A", ["B"]) for _ in range(choose.randint(1, 4))]
    lines += [rule("B", []) for _ in range(choose.randint(1, 4))]
    return "\n".join([*lines, "COMMIT", ""])
