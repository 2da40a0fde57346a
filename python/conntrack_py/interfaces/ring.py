"""A packet socket with a receive ring (packet(7), TPACKET_V3 of the kernel's packet_mmap.rst).

The kernel writes packets into blocks of a mapping, and hands a block over when it is full or after `RETIRE`. A system
call a block, and none a packet: one core takes several times what a call a packet would allow. The kernel gives each
packet its time, its VLAN tag, and the state of its checksums. The standard library has all calls; the extension module
reads the bytes.
"""

from __future__ import annotations

import array
import contextlib
import errno
import mmap
import os
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from typing import NoReturn

from conntrack_py.interfaces.filter import Instruction
from conntrack_py.io.batch import PacketBatch

#: Milliseconds after which the kernel hands over a block that is not full.
RETIRE = 100
#: Bytes of a block, where the buffer has room for several. On a slow line each block lasts `RETIRE`: many small ones
#: bridge a longer pause of the program, 25 s with the default buffer. The longest packet (64 KiB) has room.
BLOCK = 1 << 17
#: The fewest blocks.
_FEWEST = 4

# linux/if_packet.h, linux/if_ether.h, asm/socket.h, linux/if_arp.h: the standard library does not have these names.
_SOL_PACKET = 263
_PACKET_ADD_MEMBERSHIP, _PACKET_RX_RING, _PACKET_STATISTICS, _PACKET_VERSION = 1, 5, 6, 10
_PACKET_MR_PROMISC = 1
_TPACKET_V3 = 2
_TP_STATUS_USER = 1
_ETH_P_ALL = 3
_SO_ATTACH_FILTER = 26
_ARPHRD_ETHER, _ARPHRD_LOOPBACK = 1, 772
#: ARPHRD_IEEE80211 and ARPHRD_IEEE80211_RADIOTAP → LINKTYPE_ numbers.
_WIRELESS = {801: 105, 803: 127}
_ETHERNET = 1
_FRAME = 2048
#: Status, number of packets, offset of the first, and bytes used, in a block's descriptor.
_HEAD = struct.Struct("=IIII")
_HEAD_AT = 8

#: The name for all interfaces.
ANY = "any"


def names() -> list[str]:
    """The interfaces of this machine."""
    try:
        return [name for _, name in socket.if_nameindex()]
    except OSError:
        # Where a service may not use netlink.
        return sorted(os.listdir("/sys/class/net"))


def _advice(interface: str) -> str:
    return f"or let another program capture: tcpdump -U -w - -i {interface} | conntrack-py track -"


def _refuse_permission(interface: str, error: OSError) -> NoReturn:
    program = os.path.realpath(sys.executable)
    raise PermissionError(
        error.errno,
        "capturing needs CAP_NET_RAW: run as root (sudo), give it to a service (AmbientCapabilities=CAP_NET_RAW), or "
        f"to Python (setcap cap_net_raw+ep {program}); {_advice(interface)}",
        interface,
    ) from error


def check_system(interface: str) -> None:
    """Refuse systems without packet sockets.

    Raises:
        OSError: This is one.
    """
    if not sys.platform.startswith("linux") or not hasattr(socket, "AF_PACKET"):
        raise OSError(errno.ENOTSUP, f"capturing from an interface is for Linux; {_advice(interface)}", interface)


class Ring:
    """A ring of packets of one interface, or of all."""

    def __init__(
        self,
        interface: str,
        number: int,
        program: Callable[[bool], list[Instruction] | None],
        *,
        buffer_size: int,
        is_promiscuous: bool,
    ) -> None:
        """Open the socket. No packet comes before the filter is there."""
        self.interface = interface
        self._number = number
        self._promiscuous = is_promiscuous
        self._dropped = 0
        with contextlib.ExitStack() as undo:
            self._index, hardware = (0, -1) if interface == ANY else _found(interface)
            # Other links than Ethernet are cooked: the kernel says what is in the packet.
            self._linktype = _ETHERNET if hardware in (_ARPHRD_ETHER, _ARPHRD_LOOPBACK) else _WIRELESS.get(hardware)
            kind = socket.SOCK_DGRAM if self._linktype is None else socket.SOCK_RAW
            # Without a protocol it receives nothing until it is bound. Python binds to no wildcard: with all interfaces
            # it receives at once, and the kernel throws that away when the ring is made.
            protocol = socket.htons(_ETH_P_ALL) if interface == ANY else 0
            try:
                self._socket = undo.enter_context(socket.socket(socket.AF_PACKET, kind, protocol))
            except PermissionError as error:
                _refuse_permission(interface, error)
            self._set_up(program(self._linktype is None), buffer_size)
            self._map = undo.enter_context(mmap.mmap(self._socket.fileno(), self._block * self._blocks))
            self._memory = memoryview(self._map)
            undo.callback(self._memory.release)
            self._next = 0
            self._bind()
            self._undo = undo.pop_all()

    def _set_up(self, program: list[Instruction] | None, buffer_size: int) -> None:
        page = mmap.PAGESIZE
        block = min(BLOCK, max(page, buffer_size // _FEWEST // page * page))
        # A power of two: the kernel takes blocks of pages in such numbers.
        self._block = 1 << (block.bit_length() - 1)
        self._blocks = max(_FEWEST, buffer_size // self._block)
        frames = self._block // _FRAME * self._blocks
        if program is not None:
            self.attach(program)
        self._socket.setsockopt(_SOL_PACKET, _PACKET_VERSION, _TPACKET_V3)
        # struct tpacket_req3.
        request = struct.pack("@7I", self._block, self._blocks, _FRAME, frames, RETIRE, 0, 0)
        try:
            self._socket.setsockopt(_SOL_PACKET, _PACKET_RX_RING, request)
        except OSError as error:
            size = f"{self._block * self._blocks:,} bytes"
            raise OSError(
                error.errno, f"the kernel gives no buffer of {size}: {error.strerror}", self.interface
            ) from error

    def _bind(self) -> None:
        if self.interface == ANY:
            return
        if self._promiscuous:
            request = struct.pack("@iHH8x", self._index, _PACKET_MR_PROMISC, 0)
            with contextlib.suppress(OSError):  # an interface that has no such mode
                self._socket.setsockopt(_SOL_PACKET, _PACKET_ADD_MEMBERSHIP, request)
        self._socket.bind((self.interface, _ETH_P_ALL))

    def attach(self, program: list[Instruction]) -> None:
        """Put a filter in the place of the one before."""
        # An array tells its address. ctypes would, too, but needs memory that a service may not have (executable).
        code = array.array("B", b"".join(struct.pack("@HBBI", *one) for one in program))
        request = struct.pack("@HP", len(program), code.buffer_info()[0])
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, request)
        except OSError as error:
            raise OSError(error.errno, f"the kernel refuses the filter: {error.strerror}", self.interface) from error

    def fileno(self) -> int:
        """The socket's descriptor, to wait for."""
        return self._socket.fileno()

    def take(self) -> Iterator[PacketBatch]:
        """Yield the packets of the blocks that are handed over, once around the ring at most."""
        for _ in range(self._blocks):
            start = self._next * self._block
            status, _, _, used = _HEAD.unpack_from(self._memory, start + _HEAD_AT)
            if not status & _TP_STATUS_USER:
                return
            block = self._memory[start : start + min(used, self._block)]
            try:
                batch = PacketBatch._of_block(block, self._linktype, self._number)
            finally:
                block.release()
            # The kernel may write again: the batch is a copy.
            struct.pack_into("=I", self._memory, start + _HEAD_AT, 0)
            self._next = (self._next + 1) % self._blocks
            yield batch

    def error(self) -> int:
        """The error that the socket met, once; 0 if there is none. ENETDOWN: the interface is down."""
        return self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)

    def is_there(self) -> bool:
        """True as long as the interface exists. One of the same name that came later is another."""
        try:
            return self.interface == ANY or socket.if_nametoindex(self.interface) == self._index
        except OSError:
            return False

    def dropped(self) -> int:
        """Packets that found the ring full, since it was opened."""
        # struct tpacket_stats_v3: packets, drops, and freezes; reading resets them.
        if self._socket.fileno() >= 0:
            statistics = self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 12)
            self._dropped += int(struct.unpack("@3I", statistics)[1])
        return self._dropped

    def freeze(self) -> None:
        """Let no further packet in. Those in the ring remain."""
        self.attach([(0x06, 0, 0, 0)])

    def close(self) -> None:
        """Close the socket."""
        self._undo.close()


def _found(interface: str) -> tuple[int, int]:
    """The index and the hardware type of an interface."""
    import fcntl

    try:
        index = socket.if_nametoindex(interface)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
            # SIOCGIFHWADDR, netdevice(7): a name of 16 bytes, and an address that begins with the type.
            answer = fcntl.ioctl(any_socket, 0x8927, struct.pack("@16s24x", interface.encode()))
    except OSError as error:
        there = ", ".join([*names(), ANY])
        raise OSError(errno.ENODEV, f"no such interface; there are: {there}", interface) from error
    return index, int(struct.unpack_from("@H", answer, 16)[0])
