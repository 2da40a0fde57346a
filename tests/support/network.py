"""Two network namespaces with a pair of interfaces between them: `here0` in this process, `there0` beside it."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

HERE, THERE = "10.9.0.1", "10.9.0.2"
_CLONE_NEWNET = 0x40000000
_OWN = "/proc/thread-self/ns/net"


def _call(name: str, *arguments: int) -> None:
    if getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments) != 0:
        raise OSError(ctypes.get_errno(), name)


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


class Network:
    """The two namespaces; this process is in the first."""

    def __init__(self, here: int, there: int) -> None:
        self._here, self._there = here, there

    @contextmanager
    def beside(self) -> Iterator[None]:
        """In the other namespace; a socket stays where it was made."""
        _call("setns", self._there, _CLONE_NEWNET)
        try:
            yield
        finally:
            _call("setns", self._here, _CLONE_NEWNET)

    def server(self, port: int = 443) -> socket.socket:
        """A TCP server on the other side."""
        with self.beside():
            listening = socket.socket()
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind((THERE, port))
            listening.listen(1000)
            return listening

    def sender(self) -> socket.socket:
        """A socket that sends whole frames from the other side."""
        with self.beside():
            frames = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            frames.bind(("there0", 0))
            return frames


def exchange(listening: socket.socket, source: int = 0, *, reset: bool = False) -> int:
    """A whole connection to a server, closed by FIN or RST; its port."""
    with socket.socket() as client:
        client.bind((HERE, source))
        client.connect(listening.getsockname())
        port: int = client.getsockname()[1]
        served, _ = listening.accept()
        with served:
            client.sendall(b"question")
            served.recv(100)
            served.sendall(b"answer")
            client.recv(100)
            if reset:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.close()
    return port


def refusal() -> str | None:
    """Why this machine has no such networks; None if it has."""
    if not sys.platform.startswith("linux"):
        return "needs network namespaces, which Linux has"
    if os.geteuid() != 0:
        return "needs root, for network namespaces"
    if shutil.which("ip") is None:
        return "needs ip (iproute2)"
    if subprocess.run(["unshare", "-n", "true"], capture_output=True).returncode != 0:
        return "needs the right to make network namespaces"
    return None


@contextmanager
def network() -> Iterator[Network]:
    """Two namespaces; afterwards the process is where it was. Where it may not, the test is skipped, in CI too."""
    if (reason := refusal()) is not None:
        pytest.skip(reason)
    with contextlib.ExitStack() as stack:
        before = stack.enter_context(open(_OWN)).fileno()
        stack.callback(_call, "setns", before, _CLONE_NEWNET)
        _call("unshare", _CLONE_NEWNET)
        there = stack.enter_context(open(_OWN)).fileno()
        with subprocess.Popen(["sleep", "600"]) as holder:
            _call("unshare", _CLONE_NEWNET)
            here = stack.enter_context(open(_OWN)).fileno()
            found = Network(here, there)
            try:
                _set_up(found, holder.pid)
                yield found
            finally:
                _call("setns", before, _CLONE_NEWNET)
                holder.kill()


def _set_up(found: Network, beside: int) -> None:
    for name in ("all", "default"):
        with contextlib.suppress(OSError), open(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6", "w") as file:
            file.write("1")
    ip("link", "set", "lo", "up")
    ip("link", "add", "here0", "type", "veth", "peer", "name", "there0", "netns", str(beside))
    ip("addr", "add", f"{HERE}/24", "dev", "here0")
    ip("link", "set", "here0", "up")
    with found.beside():
        ip("link", "set", "lo", "up")
        ip("addr", "add", f"{THERE}/24", "dev", "there0")
        ip("link", "set", "there0", "up")
    # Refused once both ends are up and know each other's address.
    until = time.monotonic() + 20
    while time.monotonic() < until:
        with socket.socket() as knock:
            knock.settimeout(5)
            error = knock.connect_ex((THERE, 1))
        if error == errno.ECONNREFUSED:
            return
    raise TimeoutError(f"here0 is not up: {os.strerror(error)}")
