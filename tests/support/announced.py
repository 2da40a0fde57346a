"""Connections that FTP and TFTP announce, through a gateway with a ruleset or to a host with one; prints what passed.

    unshare -n python announced.py RULES gateway|server

A client, a gateway and a server have a network namespace each; the process is in that of the gateway. RULES is text of
nftables, or of iptables-restore where it begins with `#` and has a line `*filter`.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

CLIENT, SERVER = "10.1.0.2", "10.2.0.2"
_CLONE_NEWNET = 0x40000000
#: Ports of data: announced, never announced, and the client's for active FTP.
PASSIVE, SILENT, ACTIVE = 50123, 50999, 40123
_WAIT = 1.5


def _setns(descriptor: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


@contextmanager
def inside(pid: int) -> Iterator[None]:
    """In the namespace of a process."""
    with open("/proc/thread-self/ns/net") as own, open(f"/proc/{pid}/ns/net") as other:
        _setns(other.fileno())
        try:
            yield
        finally:
            _setns(own.fileno())


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@contextmanager
def end(name: str, address: str, gateway: str) -> Iterator[int]:
    """A namespace behind a pair of interfaces; the process that holds it."""
    with subprocess.Popen(["unshare", "-n", "sh", "-c", "echo; exec sleep 120"], stdout=subprocess.PIPE) as holder:
        try:
            assert holder.stdout is not None
            holder.stdout.readline()
            ip("link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", str(holder.pid))
            ip("addr", "add", f"{gateway}/24", "dev", name)
            ip("link", "set", name, "up")
            with inside(holder.pid):
                ip("link", "set", "lo", "up")
                ip("addr", "add", f"{address}/24", "dev", "eth0")
                ip("link", "set", "eth0", "up")
                ip("route", "add", "default", "via", gateway)
            yield holder.pid
        finally:
            holder.kill()


def load(rules: str) -> None:
    with open(rules) as file:
        text = file.read()
    command = ["iptables-restore"] if "\n*filter\n" in text else ["nft", "-f", "-"]
    subprocess.run(command, input=text, text=True, check=True)


def listening(address: str, port: int) -> socket.socket:
    one = socket.socket()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    one.bind((address, port))
    one.listen()
    return one


def connects(address: str, port: int, source: tuple[str, int] = ("", 0)) -> bool:
    with socket.socket() as one:
        one.settimeout(_WAIT)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.bind(source)
        try:
            one.connect((address, port))
        except OSError:
            return False
        return True


def numbers(address: str, port: int) -> str:
    return ",".join((*address.split("."), str(port >> 8), str(port & 255)))


def ftp(client: int, server: int, found: dict[str, bool]) -> None:
    """A session: one line after the other, since the helper reads lines that follow a line."""
    with contextlib.ExitStack() as stack:
        with inside(server):
            control, *_ = [stack.enter_context(listening(SERVER, port)) for port in (21, PASSIVE, SILENT)]
        with inside(client):
            stack.enter_context(listening(CLIENT, ACTIVE))
            asking = stack.enter_context(socket.socket())
            asking.settimeout(_WAIT)
            try:
                asking.connect((SERVER, 21))
            except OSError:
                found["control"] = False
                return
        found["control"] = True
        answering = stack.enter_context(control.accept()[0])
        for who, line in (
            (answering, "220 ready"),
            (asking, "USER a"),
            (answering, "331 ok"),
            (asking, "PASV"),
            (answering, f"227 Entering Passive Mode ({numbers(SERVER, PASSIVE)})"),
        ):
            who.sendall(f"{line}\r\n".encode())
            (asking if who is answering else answering).recv(1000)
        with inside(client):
            found["passive"] = connects(SERVER, PASSIVE)
            found["not announced"] = connects(SERVER, SILENT)
        for who, line in ((asking, f"PORT {numbers(CLIENT, ACTIVE)}"), (answering, "200 ok")):
            who.sendall(f"{line}\r\n".encode())
            (asking if who is answering else answering).recv(1000)
        with inside(server):
            found["active"] = connects(CLIENT, ACTIVE, (SERVER, 20))


def tftp(client: int, server: int) -> bool:
    """The answer to a request, from a port of the moment."""
    with contextlib.ExitStack() as stack:
        sockets = []
        for pid, address, port in ((client, CLIENT, 40069), (server, SERVER, 69), (server, SERVER, 40070)):
            with inside(pid):
                one = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            one.bind((address, port))
            one.settimeout(_WAIT)
            sockets.append(one)
        asking, well_known, moment = sockets
        asking.sendto(b"\0\1file\0octet\0", (SERVER, 69))
        try:
            well_known.recv(1000)
            moment.sendto(b"\0\3\0\1data", (CLIENT, 40069))
            return bool(asking.recv(1000))
        except (TimeoutError, PermissionError):  # a drop of one's own output is told to the sender
            return False


def main(rules: str, where: str) -> None:
    ip("link", "set", "lo", "up")
    with end("client", CLIENT, "10.1.0.1") as client, end("server", SERVER, "10.2.0.1") as server:
        with open("/proc/sys/net/ipv4/ip_forward", "w") as file:
            file.write("1")
        if where == "gateway":
            load(rules)
        else:
            with inside(server):
                load(rules)
        found: dict[str, bool] = {}
        ftp(client, server, found)
        found["tftp"] = tftp(client, server)
        sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
