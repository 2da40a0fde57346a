"""Native policies: what is read, what is refused and in which words, what is written."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import conntrack_py as ct
from conntrack_py.exceptions import PolicyError
from conntrack_py.policy import Evidence, Group, Policy, Rule
from conntrack_py.policy.model import effective_members

WHOLE = """\
default = "deny"

[groups.web]
members = ["10.0.1.0/24", "2001:db8::7"]
default = { egress = "allow" }
ingress = [
    { from = "any", proto = "tcp", ports = [443, "8000-8080"], note = "the site" },
    { from = ["office", "192.0.2.7"], proto = "ICMPv6", types = [128] },
]

[[groups.office.egress]]
to = "web"
proto = 47

[groups."a name"]
default = "allow"
"""


def refused(text: str, tmp_path: Path, name: str = "p.toml") -> str:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(ct.PolicyError) as error:
        Policy.load(path)
    assert isinstance(error.value, ValueError)
    message = str(error.value)
    assert message.startswith(str(path))
    return message.removeprefix(str(path)).removeprefix(":")


def test_the_whole_form(tmp_path: Path) -> None:
    path = tmp_path / "p.toml"
    path.write_text(WHOLE)
    policy = Policy.load(path)
    web = policy.groups["web"]
    assert web.members == ("10.0.1.0/24", "2001:db8::7/128")
    assert (web.ingress_default, web.egress_default) == (None, "allow")
    assert web.ingress[0] == Rule(peers=("any",), proto="tcp", ports=((443, 443), (8000, 8080)), note="the site")
    assert web.ingress[1] == Rule(peers=("office", "192.0.2.7/32"), proto="icmp6", ports=((128, 128),))
    assert policy.groups["office"].egress == (Rule(peers=("web",), proto="gre"),)
    assert policy.groups["a name"].egress_default == policy.groups["a name"].ingress_default == "allow"
    assert [one.rule.line for one in policy.numbered()] == [7, 8, 11]
    assert [str(one) for one in policy.numbered()] == [
        "web ingress from any tcp 443, 8000-8080",
        "web ingress from office, 192.0.2.7/32 icmp6 type 128",
        "office egress to web gre",
    ]
    assert Policy.from_dict(policy.to_dict()) == policy


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("groups = 1", "1: groups: found 1, expected tables such as [groups.web]"),
        ("grups = {}", "1: grups: unknown key; did you mean groups?"),
        ('default = "drop"', '1: default: found \'drop\', expected "deny" or "allow"'),
        ("[groups.any]", "1: groups: found 'any', expected a name that is not empty, not any, and no address"),
        ("[groups.web]\nmember = []", "2: groups.web.member: unknown key; did you mean members?"),
        ('[groups.web]\nmembers = ["10.0.0/8"]', "2: groups.web.members[0]: found '10.0.0/8', expected a network"),
        (
            '[groups.web]\nmembers = ["10.0.5.7/24"]',
            "2: groups.web.members[0]: found '10.0.5.7/24', expected a network: is it",
        ),
        (f"default = {'9' * 5000}", " not TOML: "),
        (f"default = 0x{'f' * 5000}", " default: found a number of too many digits, expected"),
        (f"a = {'[' * 5000}", " nested too deeply"),
        (
            '[groups.web]\ningress = [{ from = "ofice" }]\n[groups.office]',
            "2: groups.web.ingress[0].from: found 'ofice', expected any, a group or a network; did you mean office?",
        ),
        ('[groups.web]\ningress = [{ to = "any" }]', "2: groups.web.ingress[0].to: unknown key; valid are from"),
        (
            '[groups.web]\ningress = [{ from = "any", proto = "tpc" }]',
            "2: groups.web.ingress[0].proto: found 'tpc', expected a protocol or its number; did you mean tcp?",
        ),
        (
            '[groups.web]\ningress = [\n{ from = "any", proto = "tcp", ports = [70000] }]',
            "3: groups.web.ingress[0].ports[0]: found 70000, expected numbers from 0 to 65535",
        ),
        ('[groups.web]\ningress = [{ from = "any", ports = [1] }]', "2: groups.web.ingress[0].ports: only tcp, udp,"),
        (
            '[groups.web]\ningress = [{ from = "any", proto = "tcp", types = [1] }]',
            "2: groups.web.ingress[0].types: tcp has ports",
        ),
        (
            '[groups.web]\ningress = [{ from = "any", proto = "tcp", source_ports = [443] }]',
            "2: groups.web.ingress[0].source_ports: unknown key; replies need no rule",
        ),
        ('[groups.web]\negress = [{ proto = "tcp" }]', "2: groups.web.egress[0].to: found None, expected any, a group"),
        (
            '[groups.web]\ningress = [{ from = "any", note = "\\u001b[31m" }]',
            "2: groups.web.ingress[0].note: found '\\x1b[31m', expected a line of printable text",
        ),
        ("[groups.web\n", " not TOML: "),
    ],
)
def test_refusals_name_line_key_and_what_was_expected(text: str, message: str, tmp_path: Path) -> None:
    assert refused(text, tmp_path).startswith(message)


def test_a_message_has_the_first_sixty_characters_of_a_value(tmp_path: Path) -> None:
    text = "1234567890" * 9
    assert f": found {text[:60]!r}, expected" in refused(f'[groups.web]\nmembers = ["{text}"]', tmp_path)


def test_json_has_lines_too(tmp_path: Path) -> None:
    text = '{"groups": {\n "web": {\n  "ingress": [\n   {"from": "any", "proto": "tcp", "ports": ["x"]}]}}}'
    assert refused(text, tmp_path, "p.json").startswith("4: groups.web.ingress[0].ports[0]: found 'x', expected")
    assert refused("{", tmp_path, "p.json").startswith("1: not JSON: ")
    twice = '{"groups": {"web": {}, "web": {}}}'
    assert "the key 'web' occurs twice in one object" in refused(twice, tmp_path, "p.json")
    assert refused('{"groups":' + "[" * 100_000, tmp_path, "p.json").endswith("nested too deeply")


def test_files_that_are_no_policy(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Policy.load(tmp_path / "none.toml")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ct.PolicyError, match="found bytes that are no text at 0, expected UTF-8"):
        Policy.load(tmp_path / "bytes.toml")
    (tmp_path / "a.rules").write_text("*filter\n:INPUT DROP [0:0]\nCOMMIT\n")
    with pytest.raises(ct.PolicyError, match="a firewall's own rules"):
        Policy.load(tmp_path / "a.rules")


NAMES = ["web", "office", 'a "quoted" name', "naïve", "dots.in.it"]


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    names = draw(st.lists(st.sampled_from(NAMES), unique=True, max_size=4))
    networks = st.sampled_from(["10.0.0.0/8", "10.1.0.0/16", "10.1.2.3/32", "2001:db8::/32", "2001:db8::1/128"])
    ports = st.tuples(st.integers(0, 300), st.integers(0, 300)).map(lambda ends: (min(ends), max(ends)))

    def rule() -> st.SearchStrategy[Rule]:
        peers = st.lists(
            st.one_of(st.just("any"), networks, st.sampled_from(names)), unique=True, min_size=1, max_size=3
        )
        with_ports = st.builds(
            Rule,
            peers=peers.map(tuple),
            proto=st.sampled_from(["tcp", "udp", "sctp"]),
            ports=st.lists(ports, max_size=2).map(tuple),
            note=st.text(max_size=9).filter(str.isprintable),
            evidence=st.one_of(
                st.none(),
                st.builds(
                    Evidence,
                    connections=st.integers(1, 9),
                    peers=st.integers(1, 9),
                    first=st.integers(0, 2 * 10**18).map(lambda ns: ns // 1000 * 1000),
                    last=st.integers(0, 2 * 10**18).map(lambda ns: ns // 1000 * 1000),
                ),
            ),
        )
        others = st.builds(Rule, peers=peers.map(tuple), proto=st.sampled_from(["any", "gre", "icmp", "253"]))
        return st.one_of(with_ports, others)

    rules = st.lists(rule(), max_size=3).map(tuple)
    default = st.sampled_from([None, "allow", "deny"])
    group = st.builds(
        Group,
        members=st.lists(networks, unique=True, max_size=3).map(tuple),
        ingress=rules,
        egress=rules,
        ingress_default=default,
        egress_default=default,
    )
    return Policy(groups={name: draw(group) for name in names}, default=draw(st.sampled_from(["deny", "allow"])))


@settings(deadline=None, max_examples=150)
@given(policy=policies())
def test_what_is_written_is_read_again(tmp_path_factory: pytest.TempPathFactory, policy: Policy) -> None:
    directory = tmp_path_factory.mktemp("policies")
    for suffix in ("toml", "json"):
        path = directory / f"p.{suffix}"
        assert policy.write(path) == []
        again = Policy.load(path)
        assert again == policy
        rules = zip(again.numbered(), policy.numbered(), strict=True)
        assert all(one.rule.evidence == other.rule.evidence for one, other in rules)
        assert all(one.rule.line for one in again.numbered())


def test_many_members_are_written_quickly() -> None:
    members = tuple(f"10.{n >> 15}.{n >> 7 & 255}.{2 * n & 255}/32" for n in range(30_000))
    policy = Policy(groups={"a": Group(members=members)})
    start = time.perf_counter()
    assert policy.convert("toml").text.count("\n") == 30_007
    assert time.perf_counter() - start < 10


def test_members_by_the_longest_prefix() -> None:
    policy = Policy(
        groups={
            "all": Group(members=("10.0.0.0/8",)),
            "web": Group(members=("10.0.1.0/24", "2001:db8::/64")),
            "one": Group(members=("10.0.1.7/32",)),
            "twin": Group(members=("10.0.1.7/32",)),
        }
    )
    members = effective_members(policy)
    assert "10.0.1.0/24" not in map(str, members["all"])
    assert [str(network) for network in members["one"]] == ["10.0.1.7/32"] == [*map(str, members["twin"])]
    assert sum(network.num_addresses for network in members["all"]) == 2**24 - 2**8
    assert sum(n.num_addresses for n in members["web"] if n.version == 4) == 2**8 - 1


def test_cli_errors_are_one_line(tmp_path: Path) -> None:
    from click.testing import CliRunner

    from conntrack_py.cli import cli

    path = tmp_path / "p.toml"
    path.write_text("[groups.web]\nmember = []")
    done = CliRunner().invoke(cli, ["policy", "lint", str(path)])
    assert done.exit_code == 2
    assert done.stderr == f"conntrack-py: {path}:2: groups.web.member: unknown key; did you mean members?\n"
    done = CliRunner().invoke(cli, ["policy", "check", "-", "-"])
    assert (done.exit_code, "standard input can be read once" in done.stderr) == (2, True)
    assert json.dumps(Policy().to_dict()) == '{"default": "deny", "groups": {}}'


def test_json_with_a_key_twice_is_refused_at_once() -> None:
    from conntrack_py.policy import document

    keys = ",".join(f'"k{n}": 1' for n in range(60_000))
    start = time.perf_counter()
    for text in (f'{{{keys}, "k59999": 1}}', f'{{"groups": {{{keys}, "k0": 1}}}}'):
        with pytest.raises(PolicyError, match=r"the key 'k(59999|0)' occurs twice"):
            document.loads(text, "json")
    assert time.perf_counter() - start < 2


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f'{{"groups": {{"{"a" * 1025}": {{}}}}}}', "a name of at most 1024 characters, not 1,025"),
        (f'{{"groups": {{"a": {{"members": {"[" * 40}{"]" * 40}}}}}}}', "nested too deeply: more than 32"),
        (f'{{"{"a" * 1_000_000}": 1}}', r"a{60}: unknown key; valid are"),
    ],
)
def test_deep_and_long_keys_have_limits(text: str, expected: str) -> None:
    from conntrack_py.policy import document

    with pytest.raises(PolicyError, match=expected) as refused:
        document.loads(text, "json")
    assert len(str(refused.value)) < 300
    document.loads(f'{{"groups": {{"{"a" * 1024}": {{}}}}}}', "json")
