"""`live`: packets as they pass interfaces of this machine.

Packets of several interfaces are merged by time. The kernel hands blocks over within `RETIRE`, so a packet waits
`HOLD` for earlier ones of other interfaces.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import select
import time
import warnings
from collections import deque
from collections.abc import Iterator
from types import TracebackType
from typing import NoReturn, Self

from conntrack_py.exceptions import CaptureWarning
from conntrack_py.interfaces.filter import Filter, maker
from conntrack_py.interfaces.ring import ANY, RETIRE, Ring, check_system
from conntrack_py.io.batch import PacketBatch
from conntrack_py.stats import Stats

#: Bytes of a packet that are captured by default, as by tcpdump.
SNAPLEN = 262_144
#: Bytes of the kernel's buffer by default, shared by the interfaces.
BUFFER = 32 << 20
#: The most interfaces of a capture.
MOST_INTERFACES = 256
#: Seconds for which a packet waits for earlier ones of other interfaces.
HOLD = 0.25
#: Batches that wait for that; a later one ends the wait.
MOST_HELD = 1024
#: Milliseconds after which a silent interface gives an empty batch.
_SILENCE = 100
#: Seconds between two looks at interfaces that may have gone.
_LOOK = 1.0


class Live(Iterator[PacketBatch]):
    """Packets of interfaces, as they pass: the result of `live`. One thread at a time takes them."""

    def __init__(
        self,
        interfaces: tuple[str, ...],
        filter: Filter | None,
        *,
        snaplen: int,
        buffer_size: int,
        promiscuous: bool,
    ) -> None:
        """Open the interfaces."""
        self.interfaces = interfaces
        program = maker(filter, snaplen)
        if ANY in interfaces and filter is not None and (not isinstance(filter, str) or filter.startswith("@")):
            raise ValueError("filter: a compiled one is for one kind of link, and any has several; give it as words")
        share = buffer_size // len(interfaces)
        with contextlib.ExitStack() as undo:
            self._poll = select.poll()
            self._rings: dict[int, Ring] = {}
            for number, interface in enumerate(interfaces):
                ring = Ring(interface, number, program, buffer_size=share, is_promiscuous=promiscuous)
                undo.callback(ring.close)
                self._rings[ring.fileno()] = ring
                self._poll.register(ring.fileno(), select.POLLIN | select.POLLERR)
            self._undo = undo.pop_all()
        self._all = tuple(self._rings.values())
        self._down: set[str] = set()
        self._looked = time.monotonic()
        self._ready: deque[PacketBatch] = deque()
        self._held: list[tuple[float, PacketBatch]] = []
        self._stopping = self._frozen = self._closed = False
        self._gone: OSError | None = None
        self._until = 0.0

    def __repr__(self) -> str:
        """The interfaces, and the packets that were dropped."""
        return f"<Live: {', '.join(self.interfaces)}{' (closed)' if self._closed else ''}, {self.dropped:,} dropped>"

    def __reduce__(self) -> NoReturn:
        """Refuse: sockets stay in their process."""
        raise TypeError("a Live is not pickled or copied: call live in the other process")

    @property
    def dropped(self) -> int:
        """Packets that the kernel dropped so far, because its buffer was full."""
        return sum(ring.dropped() for ring in self._all)

    def __next__(self) -> PacketBatch:
        """The next packets; waits for them.

        Raises:
            OSError: The last of the interfaces has gone.
        """
        while (batch := self._next()) is not None:
            if len(batch):
                return batch
        if self._gone is not None:
            raise self._gone
        raise StopIteration

    def _live(self) -> Iterator[PacketBatch]:
        """The batches, and empty ones while nothing passes."""
        while (batch := self._next()) is not None:
            yield batch

    def _counted(self, stats: Stats) -> Stats:
        """Counts with the packets that the kernel dropped."""
        dropped = self.dropped
        skipped = {**stats.skipped, "kernel_drops": dropped} if dropped else stats.skipped
        return dataclasses.replace(stats, skipped=skipped)

    def stop(self) -> None:
        """End the capture: packets that have passed still come, and no later ones. For signal handlers."""
        self._stopping = True

    def _next(self) -> PacketBatch | None:
        if self._ready:
            return self._ready.popleft()
        if self._closed:
            return None
        if self._stopping and not self._frozen:
            self._frozen = True
            for ring in self._rings.values():
                ring.freeze()
            self._until = time.monotonic() + 5 * RETIRE / 1000
        wait = 2 if self._held else _SILENCE
        events = self._poll.poll(5 if self._frozen else wait)
        took = self._take()
        is_over = self._frozen and not took and time.monotonic() > self._until
        self._release(everything=is_over)
        self._check(events)
        if self._ready:
            return self._ready.popleft()
        return None if is_over else PacketBatch._none()

    def _take(self) -> bool:
        """Take the blocks that are there."""
        took = False
        now = time.monotonic()
        for ring in self._rings.values():
            for batch in ring.take():
                took = True
                if len(self._all) == 1:
                    self._ready.append(batch)
                else:
                    self._held.append((now, batch))
        return took

    def _release(self, *, everything: bool = False) -> None:
        """Merge what has waited long enough."""
        if not self._held:
            return
        now = time.monotonic()
        excess = max(0, len(self._held) - MOST_HELD)
        due = [
            batch for place, (at, batch) in enumerate(self._held) if everything or now - at >= HOLD or place < excess
        ]
        last = max((int(batch.timestamps[-1].astype("i8")) for batch in due if len(batch)), default=None)
        if last is None:
            self._held = [one for one in self._held if len(one[1])]
            return
        merged, rest = PacketBatch._merged([batch for _, batch in self._held], last)
        self._held = [(now, rest)] if len(rest) else []
        self._ready.append(merged)

    def _check(self, events: list[tuple[int, int]]) -> None:
        """Look after interfaces that are down or gone."""
        failed = {descriptor for descriptor, event in events if event & ~select.POLLIN}
        if not failed and time.monotonic() - self._looked < _LOOK:
            return
        self._looked = time.monotonic()
        for descriptor, ring in list(self._rings.items()):
            error = ring.error() if descriptor in failed else 0
            if not ring.is_there():
                _warn(f"{ring.interface} is gone")
                for batch in ring.take():
                    self._held.append((0.0, batch))
                self._release(everything=True)
                self._poll.unregister(descriptor)
                del self._rings[descriptor]
            elif error == errno.ENETDOWN:
                _warn(f"{ring.interface} is down; its packets come once it is up again")
            elif error:
                raise OSError(error, os.strerror(error), ring.interface)
        if not self._rings and not self._ready:
            self._closed = True
            if not self._stopping:
                self._gone = OSError(errno.ENODEV, "no interface is left", ", ".join(self.interfaces))

    def close(self) -> None:
        """Close the sockets. No more packets come."""
        self._closed = True
        self._ready.clear()
        # The last counts, which go with the sockets.
        self.dropped  # noqa: B018
        self._undo.close()

    def __enter__(self) -> Self:
        """Return the capture, which is closed at the end of the block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the sockets."""
        self.close()


def _warn(message: str) -> None:
    warnings.warn(message, CaptureWarning, stacklevel=4)


def live(
    *interfaces: str,
    filter: Filter | None = None,
    snaplen: int = SNAPLEN,
    buffer_size: int = BUFFER,
    promiscuous: bool = True,
) -> Live:
    """Capture what passes interfaces of this machine, batch by batch (Linux; needs CAP_NET_RAW).

    Args:
        interfaces: Names such as `eth0`; `any` is all of them. Packets of several are merged by time.
        filter: Packets to capture: `"tcp port 443 and net 10.0.0.0/8"`, `"@FILE"` with the output of `tcpdump -ddd`, or
            instructions of classic BPF as tuples of four numbers.
        snaplen: Bytes of a packet to capture.
        buffer_size: Bytes of the kernel's buffer. A full one drops packets.
        promiscuous: Capture also packets for other hosts.

    Returns:
        An iterator over `PacketBatch`, and a context manager. It never ends by itself; `dropped` has the packets that
        the kernel dropped.

    Raises:
        OSError: There is no such interface, or the system refuses; without the right to capture `PermissionError`.
        ValueError: A filter or a number is none.
    """
    if not interfaces or not all(isinstance(one, str) and one for one in interfaces):
        raise ValueError("interfaces: found none, expected a name such as 'eth0'")
    if len(set(interfaces)) != len(interfaces) or (ANY in interfaces and len(interfaces) > 1):
        raise ValueError("interfaces: found one twice, expected each once; any is all of them")
    if len(interfaces) > MOST_INTERFACES:
        raise ValueError(f"interfaces: found {len(interfaces)}, expected at most {MOST_INTERFACES}; any is all of them")
    for name, number, most in (("snaplen", snaplen, SNAPLEN), ("buffer_size", buffer_size, 1 << 32)):
        if not 1 <= number <= most:
            raise ValueError(f"{name}: found {number:,}, expected 1 to {most:,} bytes")
    check_system(interfaces[0])
    return Live(interfaces, filter, snaplen=snaplen, buffer_size=buffer_size, promiscuous=promiscuous)
