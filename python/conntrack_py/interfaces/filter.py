"""Filters of packets by host, port and protocol, compiled to classic BPF (`linux/filter.h`), and compiled ones.

The language is a part of pcap-filter(7), with its meaning:

    filter   = factor {("and" | "&&" | "or" | "||") factor}    from left to right: neither binds closer
    factor   = ("not" | "!") factor | "(" filter ")" | test
    test     = ["src" | "dst"] ("host" ADDRESS | "net" CIDR | "port" NUMBER | "portrange" LOW-HIGH)
             | "ip" | "ip6" | "tcp" | "udp" | "sctp" | "icmp" | "icmp6" | "proto" NUMBER
             | ("tcp" | "udp" | "sctp") test

A test looks at the outermost IP packet, behind up to two VLAN tags; the kernel takes the tag of a received packet off.
Ports are those of the first fragment: later fragments have none. `not` of a frame that is too short drops it, too.
"""

from __future__ import annotations

import ipaddress
import itertools
import os
import re
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

#: One instruction: code, jump if true, jump if false, operand.
Instruction = tuple[int, int, int, int]

#: The most instructions that the kernel takes (BPF_MAXINSNS).
MOST_INSTRUCTIONS = 4096
#: IPv6 extension headers that a filter looks behind.
MOST_EXTENSIONS = 3
#: Tests and parentheses within each other.
DEEPEST = 100
_PROTOCOLS = {"icmp": 1, "tcp": 6, "udp": 17, "icmp6": 58, "sctp": 132}
_WITH_PORTS = (6, 17, 33, 132, 136)
_VLANS = (0x8100, 0x88A8, 0x9100)

# Codes of classic BPF, and places in its scratch memory.
_LD_IMM, _LD_HALF, _LD_MEM, _LDX_MEM = 0x00, 0x28, 0x60, 0x61
_LDI_WORD, _LDI_HALF, _LDI_BYTE = 0x40, 0x48, 0x50
_ST, _TAX, _RET = 0x02, 0x07, 0x06
_JA, _JEQ, _JGT, _JGE, _JSET = 0x05, 0x15, 0x25, 0x35, 0x45
_TESTS = frozenset({_JEQ, _JGT, _JGE, _JSET})
_FARTHEST = 255
_ADD, _ADD_X, _AND, _RSH, _LSH = 0x04, 0x0C, 0x54, 0x74, 0x64
_NETWORK, _VERSION, _PROTOCOL, _TRANSPORT, _PLACE = range(5)
#: `SKF_AD_OFF + SKF_AD_PROTOCOL`: the EtherType, of a cooked packet.
_KIND = 0xFFFFF000


class _Program:
    """Instructions whose jumps have names."""

    def __init__(self) -> None:
        #: Code, operand, and where it jumps to if it holds and if not; None is the next instruction.
        self._code: list[tuple[int, int, str | None, str | None]] = []
        self._labels: dict[str, int] = {}

    def do(self, code: int, operand: int = 0) -> None:
        self._code.append((code, operand, None, None))

    def jump(self, to: str) -> None:
        self._code.append((_JA, 0, to, None))

    def test(self, code: int, operand: int, yes: str | None, no: str | None) -> None:
        self._code.append((code, operand, yes, no))

    def label(self, name: str) -> None:
        """Name the next instruction."""
        self._labels[name] = len(self._code)

    def made(self) -> list[Instruction]:
        """The instructions. A test has 8 bits for a distance; behind one that goes further are two jumps."""
        far: set[int] = set()
        while True:
            sizes = (3 if at in far else 1 for at in range(len(self._code)))
            places = [0, *itertools.accumulate(sizes)]
            found = {at: self._ways(at, places) for at, one in enumerate(self._code) if one[0] in _TESTS}
            more = {at for at, ways in found.items() if max(ways) > _FARTHEST} - far
            if not more:
                break
            far |= more
        made = []
        for at, (code, operand, to, _) in enumerate(self._code):
            if code == _JA:
                assert to is not None
                made.append((code, 0, 0, places[self._labels[to]] - places[at] - 1))
            elif at in far:
                yes, no = found[at]
                made += [(code, 0, 1, operand), (_JA, 0, 0, yes - 1), (_JA, 0, 0, no - 2)]
            else:
                made.append((code, *found.get(at, (0, 0)), operand))
        return made

    def _ways(self, at: int, places: Sequence[int]) -> tuple[int, int]:
        """The distances that a test jumps."""
        _, _, yes, no = self._code[at]
        way_yes, way_no = (places[at + 1 if to is None else self._labels[to]] - places[at] - 1 for to in (yes, no))
        return way_yes, way_no


@dataclass(frozen=True)
class _Test:
    """A test of the language."""

    kind: str
    side: str = ""
    low: int = 0
    high: int = 0
    network: ipaddress.IPv4Network | ipaddress.IPv6Network | None = None


@dataclass(frozen=True)
class _Not:
    of: _Node


@dataclass(frozen=True)
class _All:
    of: list[_Node]


@dataclass(frozen=True)
class _Any:
    of: list[_Node]


_Node = _Test | _Not | _All | _Any
_JOINS: dict[str, type[_All | _Any]] = {"and": _All, "&&": _All, "or": _Any, "||": _Any}


@dataclass
class _Words:
    """Words of a filter, and the place reached."""

    text: str
    at: int = 0
    depth: int = 0
    words: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.words = re.findall(r"\(|\)|&&|\|\||!|[^\s()!&|]+|.", re.sub(r"\s+", " ", self.text).strip())
        self.words = [word for word in self.words if word != " "]

    def peek(self) -> str:
        return self.words[self.at] if self.at < len(self.words) else ""

    def take(self) -> str:
        word = self.peek()
        self.at += 1
        return word

    def refuse(self, found: str, expected: str) -> NoReturn:
        raise ValueError(f"filter {self.text!r}: found {found or 'the end'}, expected {expected}")


def _filter(words: _Words) -> _Node:
    words.depth += 1
    if words.depth > DEEPEST:
        words.refuse(f"more than {DEEPEST} levels", "fewer")
    node, changes = _factor(words), 0
    kind: type[_All | _Any] | None = None
    while (word := words.peek()) in _JOINS:
        words.take()
        if kind is not _JOINS[word]:
            kind = _JOINS[word]
            node, changes = kind([node]), changes + 1
            if changes > DEEPEST:
                words.refuse(f"more than {DEEPEST} changes between and and or", "fewer")
        assert isinstance(node, _All | _Any)
        node.of.append(_factor(words))
    words.depth -= 1
    return node


def _factor(words: _Words) -> _Node:
    negated = False
    while words.peek() in ("not", "!"):
        words.take()
        negated = not negated
    if words.peek() == "(":
        words.take()
        node = _filter(words)
        if (found := words.take()) != ")":
            words.refuse(found, ")")
    else:
        node = _test(words)
    return _Not(node) if negated else node


def _test(words: _Words) -> _Node:
    word = words.take()
    if word in ("tcp", "udp", "sctp") and words.peek() in ("src", "dst", "port", "portrange", "host", "net"):
        return _All([_Test("proto", low=_PROTOCOLS[word]), _test(words)])
    if word in _PROTOCOLS:
        return _Test("proto", low=_PROTOCOLS[word])
    if word in ("ip", "ip6"):
        return _Test("version", low=4 if word == "ip" else 6)
    if word == "proto":
        number = words.take()
        if number in _PROTOCOLS:
            return _Test("proto", low=_PROTOCOLS[number])
        return _Test("proto", low=_number(words, number, 255, "a protocol from 0 to 255"))
    side = ""
    if word in ("src", "dst"):
        side, word = word, words.take()
    if word in ("host", "net"):
        return _Test("net", side, network=_network(words, word, words.take()))
    if word == "port":
        port = _number(words, words.take(), 0xFFFF, "a port from 0 to 65535")
        return _Test("port", side, port, port)
    if word != "portrange":
        words.refuse(
            word, "host, net, port, portrange, src, dst, proto, ip, ip6, tcp, udp, sctp, icmp, icmp6, not, ( or @FILE"
        )
    low, _, high = (found := words.take()).partition("-")
    first, last = (_number(words, one, 0xFFFF, "ports such as 6000-6008") for one in (low, high))
    if first > last:
        words.refuse(found, "the lower port first")
    return _Test("port", side, first, last)


def _number(words: _Words, found: str, most: int, expected: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", found) or int(found) > most:
        words.refuse(found, expected)
    return int(found)


def _network(words: _Words, kind: str, found: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        network = ipaddress.ip_network(found)
    except ValueError as error:
        words.refuse(found, f"an address or network; {error}")
    if kind == "host" and network.prefixlen != network.max_prefixlen:
        words.refuse(found, "an address; net takes a network")
    return network


def _write(program: _Program, node: _Node, yes: str, no: str, names: Iterator[str]) -> None:
    if isinstance(node, _Not):
        _write(program, node.of, no, yes, names)
    elif isinstance(node, _All | _Any):
        for one in node.of[:-1]:
            middle = next(names)
            if isinstance(node, _All):
                _write(program, one, middle, no, names)
            else:
                _write(program, one, yes, middle, names)
            program.label(middle)
        _write(program, node.of[-1], yes, no, names)
    elif node.kind in ("proto", "version"):
        program.do(_LD_MEM, _PROTOCOL if node.kind == "proto" else _VERSION)
        # Protocol 0 is also that of a frame without IP.
        if node.kind == "proto" and node.low == 0:
            program.test(_JEQ, 0, None, no)
            program.do(_LD_MEM, _VERSION)
            program.test(_JEQ, 0, no, yes)
        else:
            program.test(_JEQ, node.low, yes, no)
    elif node.kind == "port":
        _write_port(program, node, yes, no, names)
    else:
        _write_net(program, node, yes, no, names)


def _write_port(program: _Program, node: _Test, yes: str, no: str, names: Iterator[str]) -> None:
    program.do(_LD_MEM, _TRANSPORT)
    program.test(_JEQ, 0, no, None)
    program.do(_TAX)
    for offset in {"src": (0,), "dst": (2,)}.get(node.side, (0, 2)):
        program.do(_LDI_HALF, offset)
        other = next(names)
        program.test(_JGE, node.low, None, other)
        program.test(_JGT, node.high, other, yes)
        program.label(other)
    program.jump(no)


def _write_net(program: _Program, node: _Test, yes: str, no: str, names: Iterator[str]) -> None:
    network = node.network
    assert network is not None
    size = network.max_prefixlen // 8
    address, mask = network.network_address.packed, network.netmask.packed
    program.do(_LD_MEM, _VERSION)
    program.test(_JEQ, network.version, None, no)
    program.do(_LDX_MEM, _NETWORK)
    first = 12 if network.version == 4 else 8
    for offset in {"src": (first,), "dst": (first + size,)}.get(node.side, (first, first + size)):
        other = next(names)
        for at in range(0, size, 4):
            (word,), (bits,) = struct.unpack_from(">I", address, at), struct.unpack_from(">I", mask, at)
            if bits:
                program.do(_LDI_WORD, offset + at)
                if bits != 0xFFFFFFFF:
                    program.do(_AND, bits)
                program.test(_JEQ, word, None, other)
        program.jump(yes)
        program.label(other)
    program.jump(no)


def _open_frame(program: _Program, is_cooked: bool) -> None:
    """Note where IP begins; the EtherType is in A at `kind`."""
    levels = (None, 2, 6) if is_cooked else (12, 16, 20)
    for level, at in enumerate(levels):
        program.label(f"tags {level}")
        program.do(_LD_IMM, (0 if is_cooked else 14) + 4 * level)
        program.do(_ST, _NETWORK)
        program.do(_LD_HALF, _KIND if at is None else at)
        if level < 2:
            for vlan in _VLANS:
                program.test(_JEQ, vlan, f"tags {level + 1}", None)
        program.jump("kind")
    program.label("kind")
    program.test(_JEQ, 0x0800, "ip", None)
    program.test(_JEQ, 0x86DD, "ip6", "tests")


def _open_ip(program: _Program) -> None:
    """Note the protocol, and where it begins unless that is in another fragment."""
    program.label("ip")
    program.do(_LD_IMM, 4)
    program.do(_ST, _VERSION)
    program.do(_LDX_MEM, _NETWORK)
    program.do(_LDI_BYTE, 9)
    program.do(_ST, _PROTOCOL)
    program.do(_LDI_HALF, 6)
    program.test(_JSET, 0x1FFF, "tests", None)
    program.do(_LDI_BYTE, 0)
    program.do(_AND, 15)
    program.do(_LSH, 2)
    program.do(_ADD_X)
    program.do(_ST, _PLACE)
    program.jump("transport")
    program.label("ip6")
    program.do(_LD_IMM, 6)
    program.do(_ST, _VERSION)
    program.do(_LDX_MEM, _NETWORK)
    program.do(_LDI_BYTE, 6)
    program.do(_ST, _PROTOCOL)
    program.do(_LD_MEM, _NETWORK)
    program.do(_ADD, 40)
    program.do(_ST, _PLACE)
    for level in range(MOST_EXTENSIONS):
        _skip_extension(program, level)
    program.label(f"extension {MOST_EXTENSIONS}")


def _skip_extension(program: _Program, level: int) -> None:
    """Go behind a header of options, of routing, or of fragments (RFC 8200 section 4)."""
    program.label(f"extension {level}")
    program.do(_LDX_MEM, _PLACE)
    program.do(_LD_MEM, _PROTOCOL)
    for kind in (0, 43, 60):
        program.test(_JEQ, kind, f"options {level}", None)
    program.test(_JEQ, 44, None, "transport")
    program.do(_LDI_BYTE, 0)
    program.do(_ST, _PROTOCOL)
    program.do(_LDI_HALF, 2)
    program.test(_JSET, 0xFFF8, "tests", None)
    program.do(_LD_IMM, 8)
    program.jump(f"behind {level}")
    program.label(f"options {level}")
    program.do(_LDI_BYTE, 0)
    program.do(_ST, _PROTOCOL)
    program.do(_LDI_BYTE, 1)
    program.do(_ADD, 1)
    program.do(_LSH, 3)
    program.label(f"behind {level}")
    program.do(_ADD_X)
    program.do(_ST, _PLACE)


def compile_filter(text: str, *, is_cooked: bool, snaplen: int) -> list[Instruction]:
    """Compile a filter.

    Args:
        text: The filter.
        is_cooked: Frames begin with IP (or with what a VLAN tag leaves of itself), not with Ethernet.
        snaplen: Bytes of a packet to keep.

    Raises:
        ValueError: The filter is none.
    """
    words = _Words(text)
    node = _filter(words)
    if words.peek():
        words.refuse(words.peek(), "and, or, or the end")
    program = _Program()
    program.do(_LD_IMM, 0)
    for place in (_VERSION, _PROTOCOL, _TRANSPORT):
        program.do(_ST, place)
    _open_frame(program, is_cooked)
    _open_ip(program)
    program.label("transport")
    program.do(_LD_MEM, _PROTOCOL)
    for protocol in _WITH_PORTS:
        program.test(_JEQ, protocol, "ports", None)
    program.jump("tests")
    program.label("ports")
    program.do(_LD_MEM, _PLACE)
    program.do(_ST, _TRANSPORT)
    program.label("tests")
    _write(program, node, "yes", "no", map("middle {}".format, itertools.count()))
    program.label("yes")
    program.do(_RET, snaplen)
    program.label("no")
    program.do(_RET, 0)
    made = program.made()
    if len(made) > MOST_INSTRUCTIONS:
        raise ValueError(f"filter: found {len(made):,} instructions, expected at most {MOST_INSTRUCTIONS:,}")
    return made


def read_compiled(path: str | os.PathLike[str]) -> list[Instruction]:
    """Read a filter as `tcpdump -ddd` prints it: the number of instructions, and a line of four numbers for each.

    Raises:
        ValueError: The file is none.
        OSError: The system refuses.
    """
    with open(path, "rb") as file:
        lines = file.read(1 << 20).split(b"\n")
    rows = [line.split() for line in lines if line.strip()]
    is_one = len(rows) > 1 and len(rows[0]) == 1 and all(len(row) == 4 for row in rows[1:])
    if not is_one or not all(number.isdigit() and len(number) < 11 for row in rows for number in row):
        raise ValueError(f"{os.fspath(path)}: found no compiled filter, expected the output of tcpdump -ddd")
    if int(rows[0][0]) != len(rows) - 1 or len(rows) - 1 > MOST_INSTRUCTIONS:
        raise ValueError(f"{os.fspath(path)}: found {len(rows) - 1} instructions, expected {int(rows[0][0])}")
    found = [tuple(map(int, row)) for row in rows[1:]]
    if any(code > 0xFFFF or yes > 0xFF or no > 0xFF or operand > 0xFFFFFFFF for code, yes, no, operand in found):
        raise ValueError(f"{os.fspath(path)}: found a number out of range, expected the output of tcpdump -ddd")
    return [(code, yes, no, operand) for code, yes, no, operand in found]


#: The kind of what `live` takes as a filter.
Filter = str | Sequence[Instruction]


def maker(given: Filter | None, snaplen: int) -> Callable[[bool], list[Instruction] | None]:
    """Check a filter now, and return what makes its instructions for an interface that is cooked, or is not.

    Raises:
        ValueError: The filter is none.
    """
    if given is None:
        return lambda is_cooked: [(_RET, 0, 0, snaplen)]
    if isinstance(given, str) and given.startswith("@"):
        given = read_compiled(given[1:])
    if isinstance(given, str):
        text = given
        compile_filter(text, is_cooked=False, snaplen=snaplen)
        return lambda is_cooked: compile_filter(text, is_cooked=is_cooked, snaplen=snaplen)
    # What a compiled filter keeps is cut at the snaplen.
    cut = [(code, yes, no, min(one, snaplen) if code == _RET else one) for code, yes, no, one in given]
    return lambda is_cooked: cut
