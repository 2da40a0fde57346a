"""`Config`: the configuration of a tracker, from keyword arguments or a TOML file."""

from __future__ import annotations

import dataclasses
import inspect
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, NoReturn, Self, get_args

from conntrack_py import _native
from conntrack_py.exceptions import ConfigError

Tunnels = Literal["inner", "outer", "both"]
Vlan = Literal["key", "strict", "ignore"]
OnError = Literal["stop", "skip"]

#: Names of the profiles of timeouts and rules.
PROFILES: Sequence[str] = _native.PROFILES
#: The kinds of flow logs.
FLOW_KINDS: tuple[str, ...] = tuple(_native.FLOW_KINDS)

#: Units of `memory_limit`.
_UNITS = {"": 1, "B": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


def _default_local() -> tuple[str, ...]:
    return tuple(_native.LOCAL)


@dataclass(frozen=True, kw_only=True)
class Config:
    """The configuration of a tracker; it cannot be changed once made.

    `dataclasses.replace(config, strict=True)` gives a changed copy.

    Attributes:
        local: The networks whose perspective is taken, as CIDR text. Default: the private ranges of RFC 1918,
            RFC 6598 and RFC 4193, link-local and loopback.
        zones: Name → networks, reported as `orig_zone` and `resp_zone`; the longest prefix of all zones wins.
        profile: Whose timeouts and rules are followed: `linux` (nf_conntrack of kernel 6.18); `zeek` (its timeouts,
            where its connections begin and end, whom it takes for the originator, its counts); or the idle timeouts of
            `suricata`, `argus` or `ec2` (security groups) on the kernel's state machine.
        timeouts: Seconds by sysctl name (`nf_conntrack_udp_timeout`, ...). What is not named is the profile's.
        loose: Pick up TCP connections whose start was not seen (`nf_conntrack_tcp_loose`).
        liberal: Call only out-of-window RSTs invalid (`nf_conntrack_tcp_be_liberal`).
        ignore_invalid_rst: Accept RSTs below the highest acknowledgement (`nf_conntrack_tcp_ignore_invalid_rst`).
        tunnels: Which connection of a tunnelled packet counts: `inner` (what the tunnel carries), `outer` (what a
            gateway on the path sees) or `both`.
        vlan: The part of tags (VLAN ids, and the network identifiers of VXLAN and GENEVE) in a connection. `key`: other
            tags are another connection, but where they differ by direction, the halves are joined; `strict`: nothing
            is joined; `ignore`: tags tell no connections apart. Without effect on the profile `zeek`, which ignores
            them.
        checksum: Verify checksums. Captures taken on a sender often have wrong ones, so the default is not to.
        likely_server_ports: Ports at which servers are likely, such as `443/tcp`, `53/udp` or `2905/sctp`: one of the
            last words on who initiated where the opening was not captured. None: the library's list of services, or for
            the profile `zeek` Zeek's own.
        max_connections: The most connections that live at once (`nf_conntrack_max`); None: no bound. A new one then
            takes the place of one that is not assured, which ends with `evicted` and is counted in `stats.evicted`;
            where every one that is looked at is assured, the packet is not tracked and counted as `table_full` in
            `stats.skipped`. That is the kernel's early drop. With this bound or the next, at most 65,536 connections of
            ICMP errors live at once, of which the oldest leaves.
        memory_limit: The most bytes of memory for live connections, by the same rule: a number, or text such as
            `"512 MiB"` or `"2G"`. IPv4, IPv6 and connections that need more than a record have a sixteenth each for
            themselves. Where a connection grows, and all others are assured, it ends with `evicted` itself. What has
            ended is the result, and grows with it.
        reorder_window: The most seconds between a SYN+ACK and the SYN that it acknowledges, where the SYN is stored
            second: the connection is then tracked as if the SYN had come first. 0: never. The profile `zeek` always
            follows the stored order.
        strict: Raise `CaptureError` at the first damage instead of going on behind it.
        on_error: What becomes of a file that cannot be opened, is no capture, fails in its middle, or is damaged with
            `strict` set. `stop`: an error. `skip`: the other files are read, and `stats.skipped_files` lists this one
            with its reason; what was read of it counts.
        threads: The most threads to track with; None: as many as there are processors. What comes from
            a pipe or a file object takes one, as do a run that hits a bound, `tunnels="both"` and `profile="zeek"`. The
            result never depends on it.

    Raises:
        ConfigError: An unknown key or a bad value. It names the key, and the nearest valid one.
    """

    local: Sequence[str] = field(default_factory=_default_local)
    zones: Mapping[str, Sequence[str]] = field(default_factory=dict)
    profile: str = "linux"
    timeouts: Mapping[str, float] = field(default_factory=dict)
    loose: bool = True
    liberal: bool = False
    ignore_invalid_rst: bool = False
    tunnels: Tunnels = "inner"
    vlan: Vlan = "key"
    checksum: bool = False
    likely_server_ports: Sequence[str] | None = None
    max_connections: int | None = None
    memory_limit: int | str | None = None
    reorder_window: float = 0.1
    strict: bool = False
    on_error: OnError = "stop"
    threads: int | None = None

    def __new__(cls, **keys: object) -> Self:
        """Refuse unknown keys with a `ConfigError`, before `__init__` would with a `TypeError`."""
        known = [item.name for item in fields(cls)]
        for key in keys:
            if key not in known:
                raise ConfigError(f"{key}: unknown key; {_nearest(key, known)}")
        return super().__new__(cls)

    def __post_init__(self) -> None:
        """Check every value, and put it in one form."""
        for item in fields(self):
            value = getattr(self, item.name)
            if value is not None or item.default is not None:
                # The dataclass is frozen for everybody else.
                object.__setattr__(self, item.name, _CHECKS[item.name](item.name, value))
        self._native()  # parses networks and ports

    @property
    def effective_timeouts(self) -> dict[str, float]:
        """Every timeout in seconds by its sysctl name: the profile's, and on top of them `timeouts`."""
        return {**_native.default_timeouts(self.profile), **self.timeouts}

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a configuration from a TOML file.

        Args:
            path: A TOML file with the attributes of this class as its top-level keys.

        Raises:
            ConfigError: The file is not TOML, or a key or value is refused. The message begins with the file's name.
            FileNotFoundError: There is no such file.
        """
        with open(path, "rb") as file:
            return cls._of_toml(file.read(), os.fspath(path))

    @classmethod
    def _of_toml(cls, content: bytes, name: str) -> Self:
        import tomllib

        try:
            return cls(**tomllib.loads(content.decode()))
        except ConfigError as error:
            raise ConfigError(f"{name}: {error}") from None
        except ValueError as error:  # bad TOML, bad UTF-8, or a number of more digits than Python reads
            raise ConfigError(f"{name}: not a TOML file: {error}") from error

    def to_toml(self) -> str:
        """The configuration as a TOML file that `load` reads: every key with a value, and every timeout."""
        import tomlkit

        values = {item.name: getattr(self, item.name) for item in fields(self)} | {"timeouts": self.effective_timeouts}
        tables = {key: value for key, value in values.items() if isinstance(value, Mapping)}
        plain = {key: value for key, value in values.items() if key not in tables and value is not None}
        return tomlkit.dumps({**plain, **{key: dict(table) for key, table in tables.items() if table}})

    def _native(self) -> _native.Config:
        """The configuration of the extension module."""
        keys = {item.name: getattr(self, item.name) for item in fields(self)}
        keys["memory_limit"] = self._memory_limit()
        return _native.Config(keys)

    def _memory_limit(self) -> int | None:
        """`memory_limit` in bytes."""
        return None if self.memory_limit is None else _bytes("memory_limit", self.memory_limit)


# Tools would show the signature of __new__, which names no key.
Config.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
    list(inspect.signature(Config.__init__).parameters.values())[1:]
)


def checked(config: Config | None) -> Config:
    """The configuration that was given, or the default one."""
    if config is None:
        return Config()
    if not isinstance(config, Config):
        raise TypeError(f"config: found {type(config).__name__}, expected conntrack_py.Config")
    return config


def with_local(config: Config, local: object) -> Config:
    """The configuration with other local networks, unless they are None."""
    return config if local is None else dataclasses.replace(config, local=local)  # type: ignore[arg-type]


def _positive(key: str, value: object) -> int:
    """A whole number from 1 on that fits into 64 bits."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 1 << 63:
        _refuse(key, value, "a whole number from 1 on, or none at all")
    return value


def _seconds(key: str, value: object) -> float:
    """A number of seconds. Rust refuses those that are out of range."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        _refuse(key, value, "a number of seconds")
    try:
        return float(value)
    except OverflowError:
        raise ConfigError(f"{key}: found a number that is too large, expected seconds") from None


def _flag(key: str, value: object) -> bool:
    if not isinstance(value, bool):
        _refuse(key, value, "true or false")
    return value


def _word(words: Sequence[str]) -> Callable[[str, object], object]:
    """A check for one of some words."""

    def check(key: str, value: object) -> object:
        if value not in words:
            _refuse(key, value, f"one of {', '.join(words)}; {_nearest(str(value), words)}")
        return value

    return check


def _limit(key: str, value: object) -> object:
    """A number of bytes, as it was given."""
    _bytes(key, value)
    return value


def _bytes(key: str, value: object) -> int:
    """A number of bytes, or text that is one."""
    if not isinstance(value, str):
        return _positive(key, value)
    found = re.fullmatch(r"([0-9]{1,15}) ?(B|[KMG]|[KMG]iB|)", value.strip())
    if found is None:
        _refuse(key, value, 'a number of bytes, or text such as "512 MiB" or "2G"')
    return _positive(key, int(found[1]) * _UNITS[found[2]])


def _refuse(key: str, found: object, expected: str) -> NoReturn:
    try:
        shown = repr(found)
    except ValueError:  # Python does not write numbers of thousands of digits
        shown = "a number of too many digits"
    raise ConfigError(f"{key}: found {shown}, expected {expected}")


def _nearest(word: str, words: Iterable[str]) -> str:
    import difflib

    words = list(words)
    found = difflib.get_close_matches(word, words, n=1)
    return f"did you mean {found[0]}?" if found else f"valid are {', '.join(words)}"


def _networks(key: str, networks: object) -> tuple[str, ...]:
    """Networks as a tuple of text; a lone one need not be in a list. Whether they parse is for Rust to say."""
    if isinstance(networks, str):
        return (networks,)
    expected = 'a list of networks such as "10.0.0.0/8"'
    if not isinstance(networks, Iterable) or isinstance(networks, Mapping):
        _refuse(key, networks, expected)
    networks = tuple(networks)
    for network in networks:
        if not isinstance(network, str):
            _refuse(key, network, expected)
    return networks


def _ports(key: str, ports: object) -> tuple[str, ...]:
    """Ports as a tuple of text. Whether they are ports is for Rust to say."""
    expected = 'a list of ports with their protocol, such as ["443/tcp", "53/udp"]'
    if isinstance(ports, str) or not isinstance(ports, Iterable) or isinstance(ports, Mapping):
        _refuse(key, ports, expected)
    ports = tuple(ports)
    for port in ports:
        if not isinstance(port, str):
            _refuse(key, port, expected)
    return ports


def _zones(key: str, zones: object) -> dict[str, tuple[str, ...]]:
    if not isinstance(zones, Mapping):
        _refuse(key, zones, 'names with lists of networks, such as {"servers": ["10.1.0.0/16"]}')
    checked: dict[str, tuple[str, ...]] = {}
    owners: dict[object, str] = {}
    for name, networks in zones.items():
        if not isinstance(name, str) or not name:
            _refuse(key, name, "a name")
        checked[name] = _networks(f"{key}.{name}", networks)
        for network in checked[name]:
            owner = owners.setdefault(_same_for_same(network), name)
            if owner != name:
                raise ConfigError(f"{key}.{name}: {network} is already in zone {owner}; a network has one zone")
    return checked


def _same_for_same(network: str) -> object:
    """Equal for two texts of one network, such as 10.0.0.0/8 and 10.1.2.3/8; a text that is none stays as it is."""
    import ipaddress  # few have zones

    try:
        return ipaddress.ip_network(network, strict=False)
    except ValueError:
        return network


def _timeouts(key: str, timeouts: object) -> dict[str, float]:
    if not isinstance(timeouts, Mapping):
        _refuse(key, timeouts, 'sysctl names with seconds, such as {"nf_conntrack_udp_timeout": 30}')
    defaults: dict[str, Any] = _native.default_timeouts(_native.PROFILES[0])
    for name, seconds in timeouts.items():
        if name not in defaults:
            raise ConfigError(f"{key}.{name}: no timeout has this name; {_nearest(str(name), defaults)}")
        _seconds(f"{key}.{name}", seconds)
    return dict(timeouts)


#: The check of each key, which returns the value in its one form. A key whose default is None is not checked for None.
_CHECKS: Mapping[str, Callable[[str, object], object]] = {
    "local": _networks,
    "zones": _zones,
    "profile": _word(PROFILES),
    "timeouts": _timeouts,
    "loose": _flag,
    "liberal": _flag,
    "ignore_invalid_rst": _flag,
    "tunnels": _word(get_args(Tunnels)),
    "vlan": _word(get_args(Vlan)),
    "checksum": _flag,
    "likely_server_ports": _ports,
    "max_connections": _positive,
    "memory_limit": _limit,
    "reorder_window": _seconds,
    "strict": _flag,
    "on_error": _word(get_args(OnError)),
    "threads": _positive,
}
