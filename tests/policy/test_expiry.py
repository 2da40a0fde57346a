"""Owners, tickets and last days of rules: read, written, judged by the day, and left out of other formats once over."""

from __future__ import annotations

import datetime
import json
from pathlib import Path

import pytest

import conntrack_py as ct
from conntrack_py.policy import Policy, formats, lint_file
from support import program

DAY = datetime.date(2026, 1, 31)
RULES = """\
default = "allow"

[groups.web]
members = ["10.0.1.0/24"]
ingress = [
    { from = "198.51.100.7", proto = "tcp", ports = [443], owner = "shop", ticket = "NET-12", expires = 2026-01-31 },
]
egress = [
    { to = "192.0.2.1", proto = "tcp", ports = [25], expires = 2026-01-31 },
    { to = "192.0.2.53", proto = "udp", ports = [53], note = "names" },
]
"""


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    path = tmp_path / "p.toml"
    path.write_text(RULES)
    return path


def with_expires(word: str) -> Policy:
    return Policy.from_dict({"groups": {"a": {"ingress": [{"from": "any", "expires": word}]}}})


def test_the_fields_are_read_and_written(rules: Path, tmp_path: Path) -> None:
    policy = Policy.load(rules)
    first = policy.groups["web"].ingress[0]
    assert (first.owner, first.ticket, first.expires) == ("shop", "NET-12", DAY)
    for name in ("again.toml", "again.json"):
        policy.write(tmp_path / name)
        assert Policy.load(tmp_path / name) == policy
    assert "expires = 2026-01-31 }" in (tmp_path / "again.toml").read_text()
    assert json.loads((tmp_path / "again.json").read_text())["groups"]["web"]["ingress"][0]["expires"] == "2026-01-31"


@pytest.mark.parametrize(
    ("word", "day"),
    [
        ("2026-01-31", DAY),
        ("2026-01-31T23:59:59Z", DAY),
        ("2026-02-01T00:30:00+01:00", DAY),  # 23:30 of the day before, in UTC
        ("2026-01-31T23:30:00", DAY),
    ],
)
def test_a_time_is_its_day_in_utc(word: str, day: datetime.date) -> None:
    assert with_expires(word).groups["a"].ingress[0].expires == day


@pytest.mark.parametrize(
    "word", ["soon", "", "2026-13-01", "0001-01-01T00:00:00+10:00", "\x1b[2J", "2026-01-31 and more", 7, None, True, []]
)
def test_other_days_are_refused(word: str) -> None:
    with pytest.raises(ct.PolicyError, match=r"^groups\.a\.ingress\[0\]\.expires: found .*, expected a day"):
        with_expires(word)


@pytest.mark.parametrize("key", ["owner", "ticket"])
@pytest.mark.parametrize("word", ["\x1b]0;gone\x07", "two\nlines", "\u202egnp", 7])
def test_owners_and_tickets_are_printable(key: str, word: object) -> None:
    with pytest.raises(ct.PolicyError, match=rf"{key}: found .*, expected a line of printable text"):
        Policy.from_dict({"groups": {"a": {"ingress": [{"from": "any", key: word}]}}})


def test_lint_names_rules_after_their_last_day(rules: Path) -> None:
    after = DAY + datetime.timedelta(days=1)
    assert [one.place for one in Policy.load(rules).lint(today=DAY) if one.check == "D20"] == []
    found = [one for one in lint_file(rules, today=after) if one.check == "D20"]
    assert [one.place for one in found] == ["groups.web.ingress[0]", "groups.web.egress[0]"]
    assert "2026-01-31" in found[0].message
    # Today is the default.
    assert [one.check for one in with_expires("2001-01-01").lint() if one.check == "D20"] == ["D20"]
    assert [one.check for one in with_expires("9999-12-31").lint() if one.check == "D20"] == []


def test_convert_leaves_them_out_and_opens_nothing(rules: Path) -> None:
    policy = Policy.load(rules)
    after = DAY + datetime.timedelta(days=1)
    assert policy.convert("json", today=DAY).warnings == []
    written = policy.convert("json", today=after)
    assert len(written.warnings) == 2
    assert written.warnings[0].startswith(
        "groups.web.ingress[0] (web ingress from 198.51.100.7/32 tcp 443): expired on"
    )
    web = Policy.from_dict(json.loads(written.text)).groups["web"]
    # The default allows: a direction without a rule would be open.
    assert web.ingress == ()
    assert web.ingress_default == "deny"
    assert [rule.note for rule in web.egress] == ["names"]
    assert web.egress_default is None
    assert policy.convert("json", today=after, keep_expired=True).text == policy.convert("json", today=DAY).text


@pytest.mark.parametrize("format", sorted(set(formats.WRITERS) - {"firewalld", "firewalld-policy", "ufw", "windows"}))
def test_no_format_has_them(rules: Path, format: str) -> None:
    policy = Policy.load(rules)
    after = DAY + datetime.timedelta(days=1)
    written = policy.convert(format, today=after)
    if format != "ip6tables":
        assert "198.51.100.7" not in written.text
        assert "198.51.100.7" in policy.convert(format, today=DAY).text
    assert sum("expired on 2026-01-31" in line for line in written.warnings) == 2


def test_other_formats_have_owner_and_ticket_in_the_note(rules: Path) -> None:
    text = Policy.load(rules).convert("nftables", today=DAY).text
    assert "owner shop; ticket NET-12; expires 2026-01-31" in text


def test_the_program(rules: Path, tmp_path: Path) -> None:
    out = tmp_path / "web.nft"
    convert = ("policy", "convert", rules, "--to", "nftables", "-o", out)
    run = program.run(*convert, "--today", "2026-02-01")
    assert run.returncode == 0
    assert run.stderr.count(b"expired on 2026-01-31") == 2
    assert "198.51.100.7" not in out.read_text()
    run = program.run(*convert, "--today", "2026-02-01", "--keep-expired")
    assert run.returncode == 0
    assert b"expired" not in run.stderr
    assert "198.51.100.7" in out.read_text()
    lint = ("policy", "lint", "--json", rules)
    for day, count in (("2026-01-31", 0), ("2026-02-01", 2)):
        found = json.loads(program.run(*lint, "--today", day).stdout)
        assert sum(one["check"] == "D20" for one in found) == count
