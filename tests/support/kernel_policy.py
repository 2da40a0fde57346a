"""Send a capture through the running kernel with an nftables policy loaded: what became of every packet.

    python tests/support/kernel_policy.py CAPTURE RULESET

Prints a JSON list with a word for each packet: `accepted` (it came out at the other side), `dropped`, or why it was
never judged. Timeouts do not run out. Needs what kernel_answers.py needs, and works in a network namespace of its own.
"""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from pathlib import Path

from kernel_answers import TOOLS

sys.path.insert(0, str(TOOLS))

import kernel_oracle as oracle  # type: ignore[import-not-found]


class Gateway(oracle.Kernel):  # type: ignore[misc]
    """The kernel of the oracle, whose other side is looked at."""

    def through(self, ip: bytes) -> tuple[int | None, bool]:
        """Send a packet in: what the system refused, and whether anything came out."""
        kind = b"\x08\x00" if ip[0] >> 4 == 4 else b"\x86\xdd"
        self.came_out()
        try:
            os.write(self.fin, self.DST + self.SRC + kind + ip)
        except OSError as error:
            return error.errno, False
        return None, self.came_out()

    def came_out(self) -> bool:
        """Empty the other side."""
        found = False
        try:
            while True:
                frame = os.read(self.fout, 1 << 17)
                # The bridge's own traffic does not carry these addresses.
                found = found or frame[:12] == self.DST + self.SRC
        except BlockingIOError:
            return found


def packet(link: int, frame: bytes, wire: int) -> tuple[bytes, bool] | str:
    """An IP packet as the oracle sends it (whole, with a right checksum) and whether it is a fragment, or why not."""
    ip, why = oracle.to_ip(link, frame)
    if ip is None:
        return str(why)
    version = ip[0] >> 4 if ip else 0
    if version == 4:
        if len(ip) < 20 or (ip[0] & 15) < 5 or len(ip) < (ip[0] & 15) * 4:
            return "short_ip_header"
        size, total = (ip[0] & 15) * 4, ip[2] << 8 | ip[3]
        if total == 0 and wire > size:
            total = len(ip)
            ip = ip[:2] + struct.pack(">H", total) + ip[4:]
        if oracle.csum16(ip[:size]):
            ip = ip[:10] + b"\0\0" + ip[12:]
            ip = ip[:10] + struct.pack(">H", oracle.csum16(ip[:size])) + ip[12:]
    elif version == 6:
        if len(ip) < 40:
            return "short_ip_header"
        total = 40 + (ip[4] << 8 | ip[5])
        if total == 40 and len(ip) > 40 and ip[6] not in (0, 59):
            total = len(ip)
    else:
        return "bad_ip_version"
    facts = oracle.dissect(ip)
    if len(ip) < total:
        # What the snaplen cut off is zeros; headers have to be there.
        need = facts["l4"] + {6: 20, 17: 8, 1: 8, 58: 8, 132: 12}.get(facts["proto"], 4)
        if facts["proto"] == 6 and len(ip) > facts["l4"] + 12:
            need = facts["l4"] + max(20, (ip[facts["l4"] + 12] >> 4) * 4)
        if len(ip) < min(need, total) and facts["first"]:
            return "truncated"
        ip += bytes(total - len(ip))
    return ip[:total], facts["frag"]


def datagram(ip: bytes) -> bytes:
    """The part that the fragments of a datagram have in common (RFC 791 section 3.2, RFC 8200 section 4.5)."""
    if ip[0] >> 4 == 4:
        return ip[4:6] + ip[9:10] + ip[12:20]
    kind, at = ip[6], 40
    while kind in (0, 43, 60):
        kind, at = ip[at], at + 8 * (ip[at + 1] + 1)
    return ip[8:40] + ip[at + 4 : at + 8]


def main(capture: str, ruleset: str) -> None:
    """Print what became of each packet."""
    gateway = Gateway("bridge", [])
    # A save of iptables has a line with its table.
    is_save = any(line.startswith("*") for line in Path(ruleset).read_text().splitlines())
    loaded = (["iptables-restore"], Path(ruleset).read_bytes()) if is_save else (["nft", "-f", ruleset], None)
    subprocess.run(loaded[0], input=loaded[1], check=True)
    words: list[str] = []
    # Fragments of a datagram share the fate of the one that completes it; those of none are dropped.
    waiting: dict[bytes, list[int]] = {}
    for _, _, link, frame, wire in oracle.read_capture(capture):
        found = packet(link, frame, wire)
        if isinstance(found, str):
            words.append(found)
            continue
        ip, is_fragment = found
        error, out = gateway.through(ip)
        reached, verdicts, _ = gateway.logs()
        if error or not reached:
            words.append("dropped_before_netfilter")
        elif is_fragment and not verdicts:
            waiting.setdefault(datagram(ip), []).append(len(words))
            words.append("dropped")
        else:
            words.append("accepted" if out else "dropped")
            for place in waiting.pop(datagram(ip), []) if is_fragment else []:
                words[place] = words[-1]
    print(json.dumps(words))  # noqa: T201


if __name__ == "__main__":
    main(str(Path(sys.argv[1]).resolve()), str(Path(sys.argv[2]).resolve()))
