"""Policies for the firewall of one host, and audits: the programs' own checkers take what is written."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from conntrack_py.exceptions import PolicyError
from conntrack_py.policy import Policy, formats
from conntrack_py.policy.formats.common import is_undescribed
from conntrack_py.policy.model import Group, Rule, Ruleset
from support.corpus import missing
from support.program import run
from support.written_policies import CHECKS, refused, rulesets

SLOW: Any = {
    "deadline": None,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
}


def web(*egress: Rule, ingress: tuple[Rule, ...] = (), **group: object) -> Ruleset:
    return Ruleset(
        groups={"web": Group(members=("10.0.1.7/32",), ingress=ingress, egress=egress, **group)}  # type: ignore[arg-type]
    )


def rule(peer: str, proto: str = "any", *ports: tuple[int, int], note: str = "") -> Rule:
    return Rule(peers=(peer,), proto=proto, ports=ports, note=note)


def groups_of(ruleset: Ruleset) -> list[str]:
    return [name for name, group in ruleset.groups.items() if not is_undescribed(group)]


def firewalld_says(system: Path, files: dict[str, str]) -> str:
    """Errors of firewalld's own checker about files of its configuration."""
    if shutil.which("firewall-offline-cmd") is None:
        missing("firewall-offline-cmd is not installed")
    shutil.rmtree(system, ignore_errors=True)
    for name, text in files.items():
        (system / name).parent.mkdir(parents=True, exist_ok=True)
        (system / name).write_text(text)
    (system / "firewalld.conf").write_text("DefaultZone=public\nFirewallBackend=nftables\n")
    words = ["firewall-offline-cmd", "--system-config", str(system), "--check-config"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    # A rule that is no rule is a warning there, and passed over.
    failed = done.returncode or re.search("ERROR|WARNING", done.stdout + done.stderr)
    return f"{done.stdout}{done.stderr}" if failed else ""


@settings(max_examples=6, **SLOW)
@given(ruleset=rulesets())
def test_firewalld_takes_any_policy(ruleset: Ruleset, tmp_path: Path) -> None:
    files = {}
    for format, folder in (("firewalld", "zones"), ("firewalld-policy", "policies")):
        for at, name in enumerate(groups_of(ruleset)):
            files[f"{folder}/g{at}{folder[:3]}.xml"] = formats.write(ruleset, format, group=name).text
    assert not firewalld_says(tmp_path / "system", files)


def test_the_checker_of_firewalld_refuses_what_is_wrong(tmp_path: Path) -> None:
    good = formats.write(web(ingress=(rule("any", "tcp", (443, 443)),)), "firewalld").text
    assert not firewalld_says(tmp_path / "system", {"zones/web.xml": good})
    assert firewalld_says(tmp_path / "system", {"zones/web.xml": good.replace('"443"', '"99999"')})
    assert firewalld_says(
        tmp_path / "system", {"zones/web.xml": good.replace("echo", "nothing").replace("accept", "x")}
    )


@settings(max_examples=4, **SLOW)
@given(ruleset=rulesets())
def test_ufw_takes_any_policy(ruleset: Ruleset, tmp_path: Path) -> None:
    for program in ("ufw", "unshare"):
        if shutil.which(program) is None:
            missing(f"{program} is not installed")
    for name in groups_of(ruleset)[:1]:
        for line in formats.write(ruleset, "ufw", group=name).text.splitlines()[:10]:
            if not line.startswith("ufw "):
                continue
            words = ["unshare", "-n", "ufw", "--dry-run", *shlex.split(line)[1:]]
            done = subprocess.run(words, capture_output=True, text=True, timeout=60)
            assert done.returncode == 0, (line, done.stdout[-400:], done.stderr)
            assert re.search(r"^(Rules updated|Skipping|Default \w+ policy changed)", done.stdout, re.MULTILINE), line


@settings(max_examples=10, **SLOW)
@given(ruleset=rulesets())
def test_filters_take_any_audit(ruleset: Ruleset, tmp_path: Path) -> None:
    for format in ("nftables", "iptables", "ip6tables"):
        program, options = CHECKS[format]
        for group in (None, groups_of(ruleset)[0] if groups_of(ruleset) else None):
            text = formats.write(ruleset, format, group=group, audit=True).text
            assert not refused(program, options, text, tmp_path)
            assert not re.search(r"\bdrop\b|\bDROP\b|\breject\b|-j REJECT", re.sub(r'"[^"]*"|#.*', "", text))


@pytest.mark.parametrize("format", ["nftables", "iptables"])
@pytest.mark.parametrize("group", [None, "web"])
def test_an_audit_logs_where_the_policy_refuses(format: str, group: str | None) -> None:
    ruleset = web(rule("192.0.2.7/32", "tcp", (443, 443)), ingress_default="allow")
    real = formats.write(ruleset, format, group=group).text
    audit = formats.write(ruleset, format, group=group, audit=True).text
    assert "AN AUDIT" in audit
    assert re.findall(r"prefix \"([^\"]*)\"", audit) == [
        {
            ("nftables", None): "conntrack-py web_egress: ",
            ("nftables", "web"): "conntrack-py output: ",
            ("iptables", None): "web_egress: ",
            ("iptables", "web"): "OUTPUT: ",
        }[format, group]
    ]
    # What is allowed is allowed by the same lines.
    allows = re.compile(r".*(?:counter return|counter accept|-j RETURN|--ctstate NEW.* -j ACCEPT).*")
    assert allows.findall(audit) == allows.findall(real) != []
    assert "limit" in audit
    assert "limit" not in real


def test_only_some_formats_have_an_audit(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="aws has no audit form; nftables"):
        formats.write(web(), "aws", audit=True)
    made = Policy(groups=web().groups)
    with pytest.raises(PolicyError, match="toml has no audit form"):
        made.convert("toml", audit=True)
    path = tmp_path / "p.toml"
    made.write(path)
    done = run("policy", "convert", path, "--to", "nftables", "--audit")
    assert b"AN AUDIT" in done.stdout
    assert run("policy", "convert", path, "--to", "azure", "--audit").returncode == 2


def test_a_zone_of_firewalld() -> None:
    ruleset = web(ingress=(rule("10.0.2.0/24", "tcp", (443, 443)), rule("any"), rule("any", "icmp", (8, 8), (9, 9))))
    written = formats.write(ruleset, "firewalld")
    zone = ET.fromstring(written.text.encode())
    assert zone.get("target") == "DROP"
    rules = [
        (one.get("family"), {child.tag: dict(child.attrib) for child in one})
        for one in zone.findall("rule")
        if "neighbour" not in ET.tostring(one, encoding="unicode")
        and "router" not in ET.tostring(one, encoding="unicode")
    ]
    assert rules == [
        ("ipv4", {"source": {"address": "10.0.2.0/24"}, "port": {"port": "443", "protocol": "tcp"}, "accept": {}}),
        ("ipv4", {"source": {"address": "0.0.0.0/0"}, "accept": {}}),
        ("ipv6", {"source": {"address": "::/0"}, "accept": {}}),
        ("ipv4", {"icmp-type": {"name": "echo-request"}, "accept": {}}),
    ]
    assert any("no name for type 9" in warning for warning in written.warnings)
    assert (
        ET.fromstring(formats.write(web(egress_default="allow"), "firewalld-policy").text.encode()).get("target")
        == "ACCEPT"
    )


@pytest.mark.parametrize("note", ["-- x -->", "a--", "<rule>", "&amp; \"'"])
def test_notes_stay_comments_of_xml(note: str) -> None:
    text = formats.write(web(rule("any", "tcp", (1, 1), note=note)), "firewalld-policy").text
    assert len(ET.fromstring(text.encode()).findall("rule")) == 5


@pytest.mark.parametrize("note", ["it's", "$(reboot)", "`x`", "a; b", '"', "-x", "\u2019; rm"])
def test_notes_stay_comments_of_a_shell(note: str) -> None:
    text = formats.write(web(rule("any", "tcp", (1, 1), note=note)), "ufw").text
    (line,) = (line for line in text.splitlines() if " comment " in line)
    assert shlex.split(line)[-2:] == ["comment", note.replace("'", " ")]


def powershell(line: str) -> list[str]:
    """The words of a command, quotes undone as PowerShell does (its specification, section 2.3.5.2)."""
    quote = "'\u2018\u2019\u201a\u201b"
    word = re.compile(rf"[{quote}](?:[^{quote}]|[{quote}]{{2}})*[{quote}]|[^\s{quote}]+|\s+")
    found = word.findall(line)
    assert "".join(found) == line
    return found


@pytest.mark.parametrize("note", ["it's", "$(reboot)", "\u2019; Remove-Item x; \u2018", "a | b", '"'])
def test_notes_stay_words_of_powershell(note: str) -> None:
    written = formats.write(web(rule("192.0.2.7/32", "tcp", (443, 443), note=note)), "windows")
    (line,) = (line for line in written.text.splitlines() if line.startswith("New-"))
    words = powershell(line)
    place = words.index("-Description")
    assert re.sub("(['\u2018\u2019\u201a\u201b])\\1", r"\1", words[place + 2][1:-1]) == note
    assert words[place + 3 :] == powershell(
        " -Direction Outbound -Action Allow -Protocol TCP -RemotePort '443' -RemoteAddress '192.0.2.7/32' | Out-Null"
    )
    assert any("unverified" in warning for warning in written.warnings)


def test_windows_has_the_defaults_of_the_group() -> None:
    text = formats.write(web(egress_default="allow"), "windows").text
    assert text.splitlines()[-1] == (
        "Set-NetFirewallProfile -All -Enabled True -DefaultInboundAction Block -DefaultOutboundAction Allow"
    )
    sctp = formats.write(web(rule("any", "sctp", (1, 1)), rule("any", "gre")), "windows")
    assert any("no ports of sctp: left out" in warning for warning in sctp.warnings)
    assert re.findall(r"-Protocol (\S+)", sctp.text) == ["47"]
