"""Any policy: other languages' own parsers take what is written, and what is read back says the same."""

from __future__ import annotations

import dataclasses
import ipaddress
import json
import shlex
from functools import cache
from pathlib import Path
from typing import Any

import botocore.loaders
import botocore.model
import botocore.validate
import hcl2
import kubernetes_validate
import pytest
import yaml
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from conntrack_py.policy import formats
from conntrack_py.policy.formats.common import described as described_names
from conntrack_py.policy.formats.common import is_undescribed, label, number_of, unique
from conntrack_py.policy.model import SIDES, Rule, Ruleset
from support.written_policies import CHECKS, PLAIN_NOTES, PROTOS, refused, rulesets

_FEW = settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
_MORE = settings(deadline=None, max_examples=100)
#: AWS has no ports of the others, Kubernetes only these.
_AWS = tuple(proto for proto in PROTOS if proto not in ("sctp", "dccp", "udplite"))
_KUBERNETES = ("any", "tcp", "udp", "sctp")


@pytest.mark.parametrize("format", CHECKS)
@given(ruleset=rulesets())
@_FEW
def test_the_kernels_programs_take_every_policy(format: str, ruleset: Ruleset, tmp_path: Path) -> None:
    program, options = CHECKS[format]
    for group in (None, *described_names(ruleset)[:1]):
        written = formats.write(ruleset, format, group=group)
        assert not refused(program, options, written.text, tmp_path)


@cache
def _ec2() -> botocore.model.ServiceModel:
    return botocore.model.ServiceModel(botocore.loaders.Loader().load_service_model("ec2", "service-2"))


def _permissions(described: dict[str, Any], side: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = described["IpPermissions" if side == "Ingress" else "IpPermissionsEgress"]
    return found


@given(ruleset=rulesets())
@_MORE
def test_aws_takes_every_permission(ruleset: Ruleset) -> None:
    for described in json.loads(formats.write(ruleset, "aws").text)["SecurityGroups"]:
        for side in ("Ingress", "Egress"):
            shape = _ec2().operation_model(f"AuthorizeSecurityGroup{side}").input_shape
            request = {"GroupId": described["GroupId"], "IpPermissions": _permissions(described, side)}
            assert not botocore.validate.ParamValidator().validate(request, shape).has_errors()
        shape = _ec2().shape_for("SecurityGroup")
        assert not botocore.validate.ParamValidator().validate(described, shape).has_errors()
        assert len({tag["Key"] for tag in described["Tags"]}) == len(described["Tags"]) <= 50
        assert all(len(tag["Value"]) <= 256 for tag in described["Tags"])


def without_strangers(ruleset: Ruleset) -> Ruleset:
    """The policy without groups that are no peer and of which nothing else is known: nothing is written of them."""
    peers = {peer for numbered in ruleset.numbered() for peer in _lasting_peers(numbered.rule)}
    kept = {name: own for name, own in ruleset.groups.items() if name in peers or not is_undescribed(own)}
    return dataclasses.replace(ruleset, groups=kept)


def _lasting_peers(rule: Rule) -> tuple[str, ...]:
    """The peers of a rule that are written: none beside `any`."""
    return () if "any" in rule.peers else rule.peers


@given(ruleset=rulesets(_AWS, PLAIN_NOTES))
@_MORE
def test_a_policy_comes_back_from_aws(ruleset: Ruleset) -> None:
    ruleset = dataclasses.replace(ruleset, combine="any")
    written = formats.write(ruleset, "aws")
    # Of two notes for the same permission AWS keeps one.
    assume(not any("keeps one note" in warning for warning in written.warnings))
    back, _ = formats.read(written.text, "aws")
    assert formats.normalised(back) == formats.normalised(without_strangers(ruleset))


@given(ruleset=rulesets(_KUBERNETES, ("",)))
@_MORE
def test_a_policy_comes_back_from_kubernetes(ruleset: Ruleset) -> None:
    ruleset = dataclasses.replace(ruleset, combine="any")
    # A group that is only a peer has the name of its label, as nothing else is written of it.
    assume(not any(map(is_undescribed, ruleset.groups.values())))
    written = formats.write(ruleset, "kubernetes")
    back, _ = formats.read(written.text, "kubernetes")
    assert formats.normalised(back) == formats.normalised(ruleset)


@given(ruleset=rulesets())
@_FEW
def test_kubernetes_takes_every_policy(ruleset: Ruleset) -> None:
    for document in yaml.safe_load_all(formats.write(ruleset, "kubernetes").text):
        kubernetes_validate.validate(document, "1.31", strict=True)
        assert document["spec"]["policyTypes"]
        assert len(document["metadata"]["name"]) <= 63


@given(ruleset=rulesets())
@_FEW
def test_terraform_parses_every_policy(ruleset: Ruleset) -> None:
    parsed = hcl2.loads(formats.write(ruleset, "terraform").text)
    described = json.loads(formats.write(ruleset, "aws").text)["SecurityGroups"]
    # Groups without members make no resources.
    blocks = parsed.get("resource", [])
    names = [name for block in blocks for kind in block.values() for name in kind]
    kinds = [kind.strip('"') for block in blocks for kind in block]
    assert kinds.count("aws_security_group") == len(described) == len(described_names(ruleset))
    for side in ("Ingress", "Egress"):
        peers = sum(
            len(permission[key])
            for group in described
            for permission in _permissions(group, side)
            for key in ("IpRanges", "Ipv6Ranges", "UserIdGroupPairs")
        )
        assert kinds.count(f"aws_vpc_security_group_{side.lower()}_rule") == peers
    assert len(set(zip(kinds, names, strict=True))) == len(names)


@given(ruleset=rulesets())
@_MORE
def test_google_and_azure_have_unique_valid_names_and_priorities(ruleset: Ruleset) -> None:
    rules = json.loads(formats.write(ruleset, "gcp").text)
    names = [rule["name"] for rule in rules]
    assert len(set(names)) == len(names)
    for rule in rules:
        assert len(rule["name"]) <= 63
        assert rule["name"].replace("-", "").isalnum()
        assert rule["name"] == rule["name"].lower()
        for key in ("sourceRanges", "destinationRanges"):
            assert len({":" in network for network in rule.get(key, [])}) <= 1
    for group in json.loads(formats.write(ruleset, "azure").text)["resources"]:
        listed = [rule["properties"] for rule in group["properties"]["securityRules"]]
        assert len({(rule["direction"], rule["priority"]) for rule in listed}) == len(listed)
        assert all(100 <= rule["priority"] <= 4096 for rule in listed)
        for rule in listed:
            ends = [
                network
                for key in ("source", "destination")
                for network in rule.get(f"{key}AddressPrefixes", [rule.get(f"{key}AddressPrefix")])
                if network != "*"
            ]
            assert len({":" in network for network in ends}) <= 1


@given(ruleset=rulesets())
@_MORE
def test_normalised_is_its_own_normal_form(ruleset: Ruleset) -> None:
    normal = formats.normalised(ruleset)
    assert formats.normalised(normal) == normal
    assert normal.groups.keys() == ruleset.groups.keys()


@given(ruleset=rulesets())
@_MORE
def test_normalised_does_not_see_how_rules_are_cut(ruleset: Ruleset) -> None:
    def cut(rules: tuple[Rule, ...]) -> tuple[Rule, ...]:
        return tuple(
            dataclasses.replace(rule, peers=(peer,), ports=ports)
            for rule in reversed(rules)
            for peer in (("any",) if "any" in rule.peers else rule.peers)
            for ports in ([(one,) for one in rule.ports] or [()])
        )

    groups = {
        name: dataclasses.replace(group, ingress=cut(group.ingress), egress=cut(group.egress))
        for name, group in ruleset.groups.items()
    }
    assert formats.normalised(dataclasses.replace(ruleset, groups=groups)) == formats.normalised(ruleset)


@dataclasses.dataclass(frozen=True)
class Opening:
    """The first packet of a connection."""

    source: str
    target: str
    proto: str
    port: int

    def may_pass(self, ruleset: Ruleset) -> bool:
        """The verdict of the policy, evaluated naively."""
        allowed = True
        for side, address, peer in (("egress", self.source, self.target), ("ingress", self.target, self.source)):
            for name in _groups_of(ruleset, address):
                found = ruleset.groups[name].rules(side)  # type: ignore[arg-type]
                if found:
                    allowed &= any(self._fits(ruleset, rule, peer) for rule in found)
                else:
                    allowed &= ruleset.default_of(name, side) == "allow"  # type: ignore[arg-type]
        return allowed

    def _fits(self, ruleset: Ruleset, rule: Rule, peer: str) -> bool:
        if rule.proto not in ("any", self.proto):
            return False
        if rule.ports and not any(first <= self.port <= last for first, last in rule.ports):
            return False
        groups = _groups_of(ruleset, peer)
        return any(one == "any" or (one in groups if one in ruleset.groups else _in(peer, one)) for one in rule.peers)


def _in(address: str, network: str) -> bool:
    return ipaddress.ip_address(address) in ipaddress.ip_network(network)


def _groups_of(ruleset: Ruleset, address: str) -> set[str]:
    held = [(n, m) for n, group in ruleset.groups.items() for m in group.members if _in(address, m)]
    longest = max((ipaddress.ip_network(member).prefixlen for _, member in held), default=0)
    return {name for name, member in held if ipaddress.ip_network(member).prefixlen == longest}


@st.composite
def openings(draw: st.DrawFn, ruleset: Ruleset) -> Opening:
    """Openings that rules speak of, or nearly."""
    addresses = draw(
        st.sampled_from(
            (
                ("10.9.9.9", "10.0.1.1", "10.0.1.129", "10.0.2.1", "10.0.3.1", "192.0.2.7", "198.51.100.1"),
                ("2001:db8:1::1", "2001:db8:1::2", "2001:db8:2::1", "fd00::1", "2a00::1"),
            )
        )
    )
    spoken = [numbered.rule for numbered in ruleset.numbered() if numbered.rule.proto not in ("any", "icmp6", "icmp")]
    rule = draw(st.sampled_from(spoken)) if spoken else Rule(peers=("any",), proto="tcp")
    ends = [port for ports in rule.ports for port in ports] or [443]
    port = min(max(draw(st.sampled_from(ends)) + draw(st.sampled_from((0, 0, 0, 1, -1))), 1), 65535)
    return Opening(draw(st.sampled_from(addresses)), draw(st.sampled_from(addresses)), rule.proto, port)


def _iptables(text: str, opening: Opening) -> bool:
    """True where a text for iptables-restore lets a packet pass from one interface to another."""
    chains: dict[str, list[list[str]]] = {}
    for line in text.splitlines():
        if line.startswith("-A "):
            _, chain, *words = shlex.split(line)
            chains.setdefault(chain, []).append(words)

    def fits(words: list[str]) -> bool:
        options = dict(zip(words[::2], words[1::2], strict=True))
        proto = options.get("-p", opening.proto).replace("icmpv6", "icmp6")
        if proto not in (opening.proto, str(number_of(opening.proto))) or "--ctstate" in options:
            return False
        ports = [tuple(map(int, one.split(":"))) for one in options.get("--dports", "0:65535").split(",")]
        return (
            _in(opening.source, options.get("-s", "::/0" if ":" in opening.source else "0.0.0.0/0"))
            and _in(opening.target, options.get("-d", "::/0" if ":" in opening.source else "0.0.0.0/0"))
            and any(one[0] <= opening.port <= one[-1] for one in ports)
        )

    def verdict(chain: str) -> str:
        for words in chains[chain]:
            if fits(words):
                end = words[words.index("-j") + 1]
                end = verdict(end) if end in chains else end
                if end == "DROP":
                    return end
                if words[words.index("-j") + 1] == "RETURN":
                    return "RETURN"
        return "RETURN"

    return verdict("FORWARD") != "DROP"


@given(data=st.data(), ruleset=rulesets())
@settings(deadline=None, max_examples=200)
def test_iptables_lets_pass_what_the_policy_does(data: st.DataObject, ruleset: Ruleset) -> None:
    opening = data.draw(openings(ruleset))
    text = formats.write(ruleset, "ip6tables" if ":" in opening.source else "iptables").text
    assert _iptables(text, opening) == opening.may_pass(ruleset)


def _azure(group: dict[str, Any], direction: str, opening: Opening) -> bool:
    """The verdict of the first rule that matches."""

    def holds(rule: dict[str, Any], key: str, address: str) -> bool:
        listed = rule.get(f"{key}es") or [rule[key]]
        return any(one == "*" or _in(address, one) for one in listed)

    for rule in sorted(
        (one["properties"] for one in group["properties"]["securityRules"]), key=lambda r: r["priority"]
    ):
        listed = rule.get("destinationPortRanges") or [rule["destinationPortRange"]]
        ranges = [(0, 65535) if one == "*" else tuple(map(int, one.split("-"))) for one in listed]
        if (
            rule["direction"] == direction
            and rule["protocol"].lower() in ("*", opening.proto)
            and holds(rule, "sourceAddressPrefix", opening.source)
            and holds(rule, "destinationAddressPrefix", opening.target)
            and any(one[0] <= opening.port <= one[-1] for one in ranges)
        ):
            return bool(rule["access"] == "Allow")
    raise AssertionError("no rule for the rest")


@given(data=st.data(), ruleset=rulesets(("any", "tcp", "udp", "esp")))
@settings(deadline=None, max_examples=200)
def test_azure_lets_pass_what_the_policy_does(data: st.DataObject, ruleset: Ruleset) -> None:
    opening = data.draw(openings(ruleset))
    groups = dict(
        zip(described_names(ruleset), json.loads(formats.write(ruleset, "azure").text)["resources"], strict=True)
    )
    passes = all(_azure(groups[name], "Outbound", opening) for name in _groups_of(ruleset, opening.source))
    passes &= all(_azure(groups[name], "Inbound", opening) for name in _groups_of(ruleset, opening.target))
    assert passes == opening.may_pass(ruleset)


def _google(rules: list[dict[str, Any]], tags: set[str], peer_tags: set[str], peer: str, opening: Opening) -> bool:
    """The verdict of the rules of a direction: of the first priority that matches, a denial before all."""
    fitting = []
    for rule in rules:
        allowed = (rule.get("allowed") or rule["denied"])[0]
        ranges = [tuple(map(int, one.split("-"))) for one in allowed.get("ports", ["0-65535"])]
        networks = rule.get("sourceRanges", []) + rule.get("destinationRanges", [])
        if (
            tags & set(rule["targetTags"])
            and allowed["IPProtocol"] in ("all", opening.proto, str(number_of(opening.proto)))
            and any(one[0] <= opening.port <= one[-1] for one in ranges)
            and (peer_tags & set(rule.get("sourceTags", [])) or any(_in(peer, one) for one in networks))
        ):
            fitting.append((rule["priority"], "allowed" in rule))
    return min(fitting)[1]


@given(data=st.data(), ruleset=rulesets(("any", "tcp", "udp", "sctp", "esp", "gre")))
@settings(deadline=None, max_examples=200)
def test_google_lets_pass_what_the_policy_does(data: st.DataObject, ruleset: Ruleset) -> None:
    opening = data.draw(openings(ruleset))
    source, target = (_groups_of(ruleset, address) for address in (opening.source, opening.target))
    # With two tags Google allows what either does, which is a warning.
    assume(len(source) < 2 and len(target) < 2)
    rules = json.loads(formats.write(ruleset, "gcp").text)
    tags = unique(ruleset.groups, label, 40, "-")
    sides = {side: [rule for rule in rules if rule["direction"] == side.upper()] for side in SIDES}
    passes = True
    if source:
        own, other = {tags[name] for name in source}, {tags[name] for name in target}
        passes &= _google(sides["egress"], own, other, opening.target, opening)
    if target:
        own, other = {tags[name] for name in target}, {tags[name] for name in source}
        passes &= _google(sides["ingress"], own, other, opening.source, opening)
    assert passes == opening.may_pass(ruleset)
