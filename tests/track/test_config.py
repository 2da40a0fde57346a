"""Configuration: defaults, checks, TOML."""

from __future__ import annotations

import dataclasses
import inspect
import io
import pickle
import tomllib
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import conntrack_py as ct
from conntrack_py import _native
from conntrack_py.cli import cli
from support.packets import pcap_bytes, udp


def test_defaults() -> None:
    config = ct.Config()
    assert list(config.local) == _native.LOCAL
    assert config.effective_timeouts == _native.default_timeouts("linux")
    assert config.effective_timeouts["nf_conntrack_tcp_timeout_established"] == 432_000
    assert (config.profile, config.tunnels, config.loose, config.liberal) == ("linux", "inner", True, False)
    assert (config.checksum, config.strict, config.threads, config.zones) == (False, False, None, {})


def test_tools_see_the_keys() -> None:
    assert list(inspect.signature(ct.Config).parameters) == [field.name for field in dataclasses.fields(ct.Config)]


def test_given_timeouts_leave_the_others() -> None:
    config = ct.Config(timeouts={"nf_conntrack_udp_timeout": 1.5})
    assert config.effective_timeouts == {**_native.default_timeouts("linux"), "nf_conntrack_udp_timeout": 1.5}


@pytest.mark.parametrize(
    ("given", "number"),
    [(4096, 4096), ("4096", 4096), ("4096 B", 4096), ("4KiB", 1 << 12), ("3 MiB", 3 << 20), (" 2 GiB ", 2 << 30)],
)
def test_units_of_the_memory_limit(given: int | str, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_native, "Config", dict)
    assert ct.Config(memory_limit=given)._native()["memory_limit"] == number  # type: ignore[index]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"lokal": []}, "lokal: unknown key; did you mean local?"),
        ({"qqqq": 1}, "qqqq: unknown key; valid are local, zones"),
        ({"max_connections": 0}, "max_connections: found 0, expected a whole number from 1 on"),
        ({"max_connections": 1 << 63}, "max_connections: found 9223372036854775808"),
        ({"memory_limit": "much"}, "memory_limit: found 'much', expected a number of bytes, or text such as"),
        ({"memory_limit": "0 MiB"}, "memory_limit: found 0, expected"),
        ({"memory_limit": -1}, "memory_limit: found -1"),
        ({"likely_server_ports": "80/tcp"}, "likely_server_ports: found '80/tcp', expected a list of ports"),
        ({"likely_server_ports": [80]}, "likely_server_ports: found 80, expected a list of ports"),
        ({"likely_server_ports": ["tcp/80"]}, 'likely_server_ports: found "tcp/80", expected a port and its protocol'),
        ({"likely_server_ports": ["65536/tcp"]}, 'likely_server_ports: found "65536/tcp", expected a port'),
        ({"local": 10}, "local: found 10, expected a list of networks"),
        ({"local": [10]}, "local: found 10, expected a list of networks"),
        ({"local": ["10.0.0/8"]}, 'local: found "10.0.0/8", expected a network such as 10.0.0.0/8'),
        ({"zones": ["a"]}, r"zones: found \['a'\], expected names with lists"),
        ({"zones": {"dmz": ["x"]}}, r'zones\.dmz: found "x", expected a network'),
        ({"zones": {"": []}}, "zones: found '', expected a name"),
        ({"zones": {"a": ["10.0.0.0/8"], "b": "10.0.0.0/8"}}, r"zones\.b: 10\.0\.0\.0/8 is already in zone a"),
        ({"zones": {"a": ["10.0.0.0/8"], "b": "10.1.2.3/8"}}, r"zones\.b: 10\.1\.2\.3/8 is already in zone a"),
        ({"zones": {"a": ["2001:db8::"], "b": ["2001:DB8:0::0/128"]}}, r"zones\.b: .* is already in zone a"),
        ({"profile": "bsd"}, "profile: found 'bsd', expected one of linux, zeek, suricata, argus, ec2"),
        ({"profile": ""}, "profile: found '', expected one of linux"),
        ({"profile": "zeke"}, r"did you mean zeek\?"),
        ({"timeouts": 3}, "timeouts: found 3, expected sysctl names"),
        (
            {"timeouts": {"nf_conntrack_udp_timeuot": 3}},
            r"timeouts\.nf_conntrack_udp_timeuot: no timeout .* did you mean nf_conntrack_udp_timeout\?",
        ),
        ({"timeouts": {"nf_conntrack_udp_timeout": "30s"}}, r"timeouts\.nf_conntrack_udp_timeout: found '30s'"),
        ({"timeouts": {"nf_conntrack_udp_timeout": -1}}, r"timeouts\.nf_conntrack_udp_timeout: -1 is not a number"),
        ({"timeouts": {"nf_conntrack_udp_timeout": float("nan")}}, "not a number of seconds"),
        (
            {"timeouts": {"nf_conntrack_udp_timeout": 10**400}},
            r"timeouts\.nf_conntrack_udp_timeout: found a number that",
        ),
        ({"threads": -(10**5000)}, "threads: found a number of too many digits, expected a whole number from 1 on"),
        ({"loose": 1}, "loose: found 1, expected true or false"),
        ({"strict": "yes"}, "strict: found 'yes', expected true or false"),
        ({"tunnels": "iner"}, "tunnels: found 'iner', expected one of inner, outer, both; did you mean inner?"),
        ({"tunnels": ["inner"]}, r"tunnels: found \['inner'\]"),
        ({"threads": 0}, "threads: found 0, expected a whole number from 1 on"),
        ({"threads": True}, "threads: found True"),
    ],
)
def test_refused(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ct.ConfigError, match=message) as caught:
        ct.Config(**keys)
    assert isinstance(caught.value, ct.ConntrackError)
    assert isinstance(caught.value, ValueError)


def test_a_lone_network_needs_no_list() -> None:
    assert ct.Config(local="10.0.0.0/8").local == ("10.0.0.0/8",)


def test_profiles_have_their_own_timeouts() -> None:
    zeek = ct.Config(profile="zeek", timeouts={"nf_conntrack_udp_timeout": 7})
    assert zeek.effective_timeouts["nf_conntrack_tcp_timeout_established"] == 300
    assert zeek.effective_timeouts["nf_conntrack_udp_timeout"] == 7
    # A replaced profile brings its own timeouts; what was overridden stays so.
    suricata = dataclasses.replace(zeek, profile="suricata")
    assert suricata.effective_timeouts["nf_conntrack_tcp_timeout_established"] == 600
    assert suricata.effective_timeouts["nf_conntrack_udp_timeout"] == 7


def test_a_network_may_be_twice_in_its_zone() -> None:
    networks = ("10.0.0.0/8", "10.1.2.3/8", "10.0.0.0/9")
    assert ct.Config(zones={"a": networks, "b": ["10.1.2.3"]}).zones["a"] == networks


def test_a_profile_reaches_the_tracker() -> None:
    """UDP packets 45 seconds apart: the kernel forgets an unanswered sender after 30, Zeek after 60."""
    query = udp("10.0.0.5", 40000, "192.0.2.53", 5300)
    capture = pcap_bytes([(0.0, query), (45.0, query)])
    counts = {
        name: len(ct.track(io.BytesIO(capture), config=ct.Config(profile=name)).connections)
        for name in _native.PROFILES
    }
    assert counts == {"linux": 2, "zeek": 1, "suricata": 2, "argus": 2, "ec2": 2}


def test_frozen_replaced_pickled() -> None:
    config = ct.Config(zones={"dmz": ["10.1.0.0/16"]})
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.strict = True  # type: ignore[misc]
    assert dataclasses.replace(config, strict=True).zones == config.zones
    assert pickle.loads(pickle.dumps(config)) == config


def test_load(tmp_path: Path) -> None:
    path = tmp_path / "conntrack.toml"
    path.write_text(
        """
        local = ["10.0.0.0/8", "2001:db8::/32"]
        tunnels = "outer"
        threads = 2
        [zones]
        servers = ["10.0.20.0/24"]
        [timeouts]
        nf_conntrack_udp_timeout = 10
        """
    )
    assert ct.Config.load(path) == ct.Config(
        local=["10.0.0.0/8", "2001:db8::/32"],
        tunnels="outer",
        threads=2,
        zones={"servers": ["10.0.20.0/24"]},
        timeouts={"nf_conntrack_udp_timeout": 10},
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"stric = true", "stric: unknown key; did you mean strict?"),
        (b"local = [", "not a TOML file"),
        (b"local = '\xff'", "not a TOML file"),
        (b"[timeouts]\nnf_conntrack_udp_timeout = 1" + b"0" * 400, "timeouts.nf_conntrack_udp_timeout: found a number"),
        (b"threads = 1" + b"0" * 5000, "not a TOML file"),
        (b"[local]\na = 1", "local: found {'a': 1}"),
    ],
)
def test_load_names_the_file(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_bytes(content)
    with pytest.raises(ct.ConfigError) as caught:
        ct.Config.load(path)
    assert str(caught.value).startswith(f"{path}: {message}")


def test_load_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        ct.Config.load(tmp_path / "none.toml")


def test_capture_error_keeps_its_place_when_pickled() -> None:
    error = pickle.loads(pickle.dumps(ct.CaptureError("a.pcap: offset 7: bad", "a.pcap", 7)))
    assert (str(error), error.path, error.offset) == ("a.pcap: offset 7: bad", "a.pcap", 7)


@pytest.mark.parametrize("name", ["ConntrackError", "CaptureError", "ConfigError", "PolicyError", "CaptureWarning"])
def test_exceptions_are_shown_by_their_public_name(name: str) -> None:
    assert getattr(ct, name).__module__ == "conntrack_py"


@pytest.mark.parametrize("enum", [ct.CtState, ct.CtDir, ct.Direction, ct.State])
def test_enums_mirror_the_core(enum: type) -> None:
    assert [(member.name, int(member)) for member in enum] == [  # type: ignore[attr-defined]
        (name, number) for number, name in enumerate(_native.WORDS[enum.__name__])
    ]


@pytest.mark.parametrize(
    "config",
    [
        ct.Config(),
        ct.Config(
            local="10.0.0.0/8",
            zones={"a zone": ["10.1.0.0/16"]},
            profile="ec2",
            timeouts={"nf_conntrack_udp_timeout": 7.5},
            likely_server_ports=["443/tcp"],
            memory_limit="1 GiB",
            max_connections=9,
            threads=2,
            strict=True,
        ),
    ],
)
def test_what_is_shown_is_read_again(config: ct.Config, tmp_path: Path) -> None:
    path = tmp_path / "shown.toml"
    path.write_text(config.to_toml())
    again = ct.Config.load(path)
    assert again.effective_timeouts == config.effective_timeouts
    assert dataclasses.replace(again, timeouts={}) == dataclasses.replace(config, timeouts={})


def test_the_effective_configuration_is_shown(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text('profile = "zeek"')
    done = CliRunner().invoke(cli, ["config", "--show", "--config", str(path), "--local", "192.0.2.0/24"])
    shown = tomllib.loads(done.stdout)
    assert (shown["profile"], shown["local"]) == ("zeek", ["192.0.2.0/24"])
    assert shown["timeouts"] == ct.Config(profile="zeek").effective_timeouts
    assert CliRunner().invoke(cli, ["config"]).exit_code == 0
