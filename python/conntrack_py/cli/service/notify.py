"""The protocol of `sd_notify`(3): datagrams to the socket that the service manager names."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Mapping


class Notifier:
    """Tells the service manager about this process; without one it does nothing."""

    def __init__(self, address: str | None, watchdog: float | None) -> None:
        """Take the address of the socket, and the seconds within which a sign of life is due."""
        self._address = address
        self._period = None if watchdog is None else watchdog / 2
        self._due = 0.0

    @classmethod
    def of_environment(cls, environment: Mapping[str, str] = os.environ) -> Notifier:
        """Take both from the variables of the service manager."""
        # An `@` is the abstract namespace.
        address = environment.get("NOTIFY_SOCKET") or None
        if address is None or address[0] not in "/@" or not hasattr(socket, "AF_UNIX"):
            return cls(None, None)
        microseconds = environment.get("WATCHDOG_USEC", "")
        mine = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        is_asked = mine and microseconds.isdecimal() and int(microseconds) > 0
        return cls(address.replace("@", "\0", 1), int(microseconds) / 1e6 if is_asked else None)

    def ready(self) -> None:
        """Tell that the input is open."""
        self._send("READY=1")

    def alive(self) -> None:
        """Give a sign of life, where one is due."""
        if self._period is not None and time.monotonic() >= self._due:
            self._due = time.monotonic() + self._period
            self._send("WATCHDOG=1")

    def stopping(self) -> None:
        """Tell that the end has begun."""
        self._send("STOPPING=1")

    def _send(self, state: str) -> None:
        if self._address is None:
            return
        # A manager that does not listen changes nothing for the stream.
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to_manager:
            to_manager.settimeout(1.0)
            to_manager.sendto(state.encode(), self._address)
