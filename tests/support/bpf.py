"""A machine for classic BPF, by `linux/filter.h` and the kernel's filter.rst; and packets to run filters on."""

from __future__ import annotations

from collections.abc import Sequence

#: `SKF_AD_OFF + SKF_AD_PROTOCOL`.
PROTOCOL = 0xFFFFF000


def run(program: Sequence[tuple[int, int, int, int]], frame: bytes, protocol: int | None = None) -> int:
    """The bytes of a frame that a program keeps. A read beyond the frame returns 0."""
    a = x = at = 0
    memory: dict[int, int] = {}
    while True:
        code, yes, no, k = program[at]
        at += 1
        kind, size, mode = code & 7, {0x00: 4, 0x08: 2, 0x10: 1}.get(code & 0x18, 0), code & 0xE0
        operand = x if code & 8 else k
        if kind in (0, 1):
            if mode == 0x00:
                value = k
            elif mode == 0x60:
                value = memory[k]
            elif mode == 0x80:
                value = len(frame)
            elif mode == 0x20 and k == PROTOCOL:
                assert protocol is not None, "the program is for cooked packets"
                value = protocol
            else:
                place = k + (x if mode == 0x40 else 0)
                if place + (1 if mode == 0xA0 else size) > len(frame):
                    return 0
                value = (frame[place] & 15) * 4 if mode == 0xA0 else int.from_bytes(frame[place : place + size], "big")
            a, x = (value, x) if kind == 0 else (a, value)
        elif kind == 2:
            memory[k] = a
        elif kind == 3:
            memory[k] = x
        elif kind == 4:
            a = {
                0x00: lambda a, b: a + b,
                0x10: lambda a, b: a - b,
                0x40: lambda a, b: a | b,
                0x50: lambda a, b: a & b,
                0x60: lambda a, b: a << b,
                0x70: lambda a, b: a >> b,
            }[code & 0xF0](a, operand) & 0xFFFFFFFF
        elif kind == 5:
            if code == 5:
                at += k
                continue
            holds = {0x10: a == operand, 0x20: a > operand, 0x30: a >= operand, 0x40: bool(a & operand)}[code & 0xF0]
            at += yes if holds else no
        elif kind == 6:
            return a if code & 0x18 == 0x10 else k
        else:
            a, x = (a, a) if code & 0xF8 == 0 else (x, x)
