"""Files that others wrote, by mistake or on purpose: refused in words, soon, and never misunderstood."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from conntrack_py.exceptions import PolicyError
from conntrack_py.policy import document, formats, rulesets
from conntrack_py.policy.formats.common import is_undescribed
from conntrack_py.policy.model import Group, Rule, Ruleset


def policy(spec: str, metadata: str = "name: p") -> str:
    return f"kind: NetworkPolicy\nmetadata: {{{metadata}}}\nspec: {spec}\n"


def groups(*described: dict[str, Any]) -> str:
    return json.dumps({"SecurityGroups": described})


def bomb(place: str) -> str:
    """Nine lines that stand for 43 million values."""
    lines = ["kind: NetworkPolicy", 'a0: &a0 ["lol"]']
    lines += [f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)]
    return "\n".join([*lines, place]) + "\n"


# What takes too long, or too much memory.


@pytest.mark.parametrize(
    "text",
    [
        bomb("spec: {podSelector: {matchLabels: {app: *a8}}}"),
        bomb("spec: *a8"),
        bomb("spec: {podSelector: {}}\n---\n" + policy("{podSelector: {}}")),
        "kind: NetworkPolicy\nspec: &a [*a]\n",
        bomb("spec: {podSelector: {}}").replace('["lol"]', "{x: 1}").replace("[*", "{<<: [*").replace("]\n", "]}\n"),
    ],
)
def test_aliases_do_not_explode(text: str) -> None:
    begin = time.monotonic()
    with pytest.raises(PolicyError, match=r"p\.yaml:1: more than 1000000 values"):
        formats.read(text, "kubernetes", "p.yaml")
    assert time.monotonic() - begin < 20


def test_few_aliases_are_taken() -> None:
    text = "labels: &a {app: web}\n" + policy(
        "{podSelector: {matchLabels: *a}, egress: [{to: [{podSelector: {matchLabels: *a}}]}]}"
    )
    assert formats.read(text, "kubernetes")[0].groups["app=web"].egress == (Rule(peers=("app=web",)),)


def jumps(width: int, depth: int) -> list[tuple[str, str]]:
    return [(f"c{n}", f"c{n + 1}") for n in range(depth) for _ in range(width)]


def test_jumps_do_not_explode() -> None:
    save = "*filter\n:c0 - [0:0]\n" + "".join(f":c{n} - [0:0]\n" for n in range(1, 8))
    save = save.replace(":c0 - [0:0]", ":INPUT ACCEPT [0:0]")
    save += "".join(f"-A {one if one != 'c0' else 'INPUT'} -j {other}\n" for one, other in jumps(10, 7))
    with pytest.raises(PolicyError, match=r"x: chain INPUT: with its jumps there are more than 200000 rules"):
        rulesets.read(save, "iptables-save", "x")
    at = {"family": "inet", "table": "t"}
    rules = [{"rule": {**at, "chain": one, "expr": [{"jump": {"target": other}}]}} for one, other in jumps(10, 7)]
    base = {"chain": {**at, "name": "c0", "type": "filter", "hook": "input"}}
    with pytest.raises(PolicyError, match=r"x: chain inet t c0: with its jumps"):
        rulesets.read(json.dumps({"nftables": [base, *rules]}), "nftables-json", "x")


def test_many_groups_are_few_warnings() -> None:
    text = "---\n".join(policy(f"{{podSelector: {{matchLabels: {{k{n}: v}}}}}}") for n in range(60))
    ruleset, said = formats.read(text, "kubernetes")
    assert ruleset.combine == "any", "policies of the same pods add up"
    assert not [one for one in said if "the same pods" in one]


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, '{"SecurityGroups":' + "[" * 100_000])
def test_deep_json_is_refused(text: str) -> None:
    for read in (lambda: formats.guess(text, "p"), lambda: formats.read(text, "aws", "p")):
        with pytest.raises(PolicyError, match="p: not JSON that can be read: nested too deeply"):
            read()
    with pytest.raises(PolicyError, match=r"p:1: not YAML.*nested too deeply"):
        formats.read(text, "kubernetes", "p")


@pytest.mark.parametrize("digits", [30, 9000])
def test_long_numbers_are_refused(digits: int) -> None:
    number = "9" * digits
    save = f"*filter\n-A INPUT -p tcp --dport {number} -j ACCEPT\n"
    port = policy(f"{{podSelector: {{}}, ingress: [{{ports: [{{port: {number}}}]}}]}}")
    permission = f'{{"IpProtocol": "tcp", "FromPort": {number}}}'
    asked = (
        lambda: rulesets.read(save, "iptables-save", "x"),
        lambda: rulesets.read(f'{{"NetworkAcls": [{number}]}}', "nacl", "x"),
        lambda: formats.read(f'{{"SecurityGroups": [{{"IpPermissions": [{permission}]}}]}}', "aws", "x"),
        lambda: formats.read(port, "kubernetes", "x"),
        lambda: formats.read(json.dumps({"kind": "NetworkPolicy"})[:-1] + f', "spec": {number}}}', "kubernetes", "x"),
    )
    for read in asked:
        with pytest.raises(PolicyError, match=r"^x:.*(found|a number of)") as caught:
            read()
        assert len(str(caught.value)) < 300
        assert "sys." not in str(caught.value)


# What would be misunderstood.


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (policy("\n  podSelector: {}\n  ingress: []\n  ingress: []"), "p.yaml:6: key 'ingress' is there twice"),
        (policy("{podSelector: {}, ingres: []}"), "p.yaml:3: spec: unknown key 'ingres'; did you mean ingress?"),
        (policy("{podSelector: {matchlabels: {}}}"), "spec.podSelector: unknown key 'matchlabels'; did you mean"),
        (policy("{podSelector: {}, ingress: [{form: []}]}"), r"spec.ingress\[0\]: unknown key 'form'; did you mean"),
        (policy("{podSelector: {}, egress: [{from: []}]}"), r"spec.egress\[0\]: unknown key 'from'; valid are to"),
        (policy("{podSelector: {}, ingress: [{ports: [{prot: UDP}]}]}"), r"ports\[0\]: unknown key 'prot'; did you"),
        (policy("{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: '::/0', not: 1}}]}]}"), "unknown key 'not'"),
        (policy("{podSelector: {}, policyTypes: Ingress}"), "spec.policyTypes: found 'Ingress', expected a list"),
        (policy("{podSelector: {}, policyTypes: [ingress]}"), r"policyTypes\[0\]: found 'ingress', expected Ingress"),
        (policy("{podSelector: {matchLabels: {app: [1]}}}"), "spec.podSelector.matchLabels.app: found a list"),
        (policy("{podSelector: {matchExpressions: [{key: a, operator: Near}]}}"), "found 'Near', expected one of In"),
        (policy("{podSelector: {}, ingress: 5}"), "p.yaml:3: spec.ingress: found 5, expected a list of rules"),
        (
            policy("{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: '::/0'}, podSelector: {}}]}]}"),
            "ipBlock stands beside a selector",
        ),
        (policy("{podSelector: {}, ingress: [{ports: [{endPort: 5}]}]}"), "endPort: has no port before it"),
        (policy("{podSelector: {}}", "name: [x]"), "metadata.name: found a list, expected text"),
        ('{"kind": "NetworkPolicy",\n"kind": "NetworkPolicy"}', "p.yaml:2: key 'kind' is there twice"),
    ],
)
def test_kubernetes_is_not_guessed_at(text: str, message: str) -> None:
    with pytest.raises(PolicyError, match=message):
        formats.read(text, "kubernetes", "p.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"SecurityGroups": [{"GroupId": "a",\n"GroupId": "b"}]}', "g.json:2: key 'GroupId' is there twice"),
        ('{"SecurityGroups": {"a": 1}}', "g.json:1: SecurityGroups: found a table, expected a list"),
        (groups({"GroupId": 5}), r"SecurityGroups\[0\].GroupId: found 5, expected the id"),
        (groups({"GroupId": "a"}, {"GroupId": "a"}), r"SecurityGroups\[1\].GroupId: is there twice"),
        (groups({"GroupId": "a", "IpPermissions": {}}), "IpPermissions: found a table, expected a list"),
        (groups({"GroupId": "a", "IpPermissions": [{}]}), "IpProtocol: found nothing, expected a protocol"),
        (groups({"GroupId": "a", "IpPermissions": [{"IpProtocol": "tcp", "FromPort": 1}]}), "ToPort: found nothing"),
        (groups({"GroupId": "a", "IpPermissions": [{"IpProtocol": "tcp", "ToPort": 1}]}), "FromPort: found nothing"),
        (
            groups({"GroupId": "a", "IpPermissions": [{"IpProtocol": "6", "IpRanges": [{"CidrIp": 5}]}]}),
            r"IpRanges\[0\].CidrIp: found 5, expected a network",
        ),
        (
            groups({"GroupId": "a", "Tags": [{"Key": "conntrack-py:members", "Value": "x"}]}),
            "Tags: found 'x', expected",
        ),
    ],
)
def test_aws_is_not_guessed_at(text: str, message: str) -> None:
    with pytest.raises(PolicyError, match=message):
        formats.read(text, "aws", "g.json")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"NetworkAcls": []}', "nacl"),
        ('{"SecurityGroups": []}', "aws"),
        ('{"nftables": []}', "nftables-json"),
        ("table ip x {\n}\n", "nftables"),
        ("*filter\nCOMMIT\n", "iptables-save"),
        (policy("{}"), "kubernetes"),
        ('{"groups": {}}', "json"),
        ("[groups.web]\n", "toml"),
    ],
)
def test_every_format_that_is_linted_is_known(text: str, expected: str) -> None:
    assert formats.guess(text) == expected


# What is only known as a peer.


def test_a_peer_that_is_not_described_gets_no_rules() -> None:
    pair = {"IpProtocol": "tcp", "FromPort": 443, "ToPort": 443, "UserIdGroupPairs": [{"GroupId": "sg-0ab1"}]}
    ruleset, _ = formats.read(groups({"GroupId": "sg-1", "GroupName": "web", "IpPermissions": [pair]}), "aws")
    ruleset = document.loads(document.to_toml(ruleset), "toml")
    assert is_undescribed(ruleset.groups["sg-0ab1"])
    named = [format for format in formats.WRITERS if format not in formats.ONLY_FOR_HOSTS]
    written = {format: formats.write(ruleset, format) for format in named}
    for made in written.values():
        assert [one for one in made.warnings if "NO RULES are written" in one and "sg-0ab1" in one]
    (described,) = json.loads(written["aws"].text)["SecurityGroups"]
    assert described["IpPermissions"][0]["UserIdGroupPairs"] == [{"GroupId": "sg-0ab1"}]
    assert formats.normalised(formats.read(written["aws"].text, "aws")[0]) == formats.normalised(ruleset)
    assert written["terraform"].text.count('resource "aws_security_group"') == 1
    assert 'default     = "sg-0ab1"' in written["terraform"].text
    assert "referenced_security_group_id = var.security_group_id_of_sg_0ab1\n" in written["terraform"].text
    (only,) = yaml.safe_load_all(written["kubernetes"].text)
    assert only["metadata"]["name"] == "web"
    assert {tag for rule in json.loads(written["gcp"].text) for tag in rule["targetTags"]} == {"web"}
    assert [one["name"] for one in json.loads(written["azure"].text)["resources"]] == ["web"]
    with pytest.raises(PolicyError, match="'sg-0ab1' is only known as a peer"):
        formats.write(ruleset, "nftables", group="sg-0ab1")


def test_a_peer_without_an_id_keeps_its_name() -> None:
    open_one = Group(ingress_default="allow", egress_default="allow")
    ruleset = Ruleset(groups={"web": Group(ingress=(Rule(peers=("app=lb",)),)), "app=lb": open_one})
    back, _ = formats.read(formats.write(ruleset, "aws").text, "aws")
    assert back.groups["app=lb"] == open_one
    assert "default     =" not in formats.write(ruleset, "terraform").text


def test_a_group_with_members_and_no_limits_is_written_with_a_warning() -> None:
    ruleset = Ruleset(groups={"web": Group(members=("10.0.0.0/24",), egress_default="allow")})
    for format in formats.WRITERS:
        said = formats.write(ruleset, format).warnings
        assert "groups.web: egress of it is not limited: everything is allowed" in said
    assert json.loads(formats.write(ruleset, "aws").text)["SecurityGroups"][0]["IpPermissionsEgress"]


def test_selectors_and_namespaces_that_get_lost_are_named() -> None:
    text = policy("{podSelector: {matchLabels: {app: web}}}", "name: p, namespace: shop")
    ruleset, said = formats.read(text + "---\n" + text, "kubernetes")
    assert len([one for one in said if "namespace shop" in one and "NO NAMESPACE" in one]) == 1
    assert len([one for one in said if one.startswith("shop/app=web: is a selector")]) == 1
    said = formats.write(ruleset, "kubernetes").warnings
    assert len([one for one in said if one.startswith("groups.shop/app=web: is called as a selector")]) == 1


# What cannot be shown.


def test_what_cannot_be_shown_is_replaced_and_named() -> None:
    text = policy('{podSelector: {matchLabels: {app: "w\\e[31m"}}}', 'name: "p\\e[1m"')
    ruleset, said = formats.read(text, "kubernetes")
    assert list(ruleset.groups) == ["app=w [31m"]
    assert any("cannot be shown" in one for one in said)
    described = {"GroupId": "sg-1", "GroupName": "a\x1b", "IpPermissions": [{"IpProtocol": "6"}]}
    described["IpPermissions"] = [{"IpProtocol": "6", "IpRanges": [{"CidrIp": "0.0.0.0/0", "Description": "x\x1b\ny"}]}]
    ruleset, said = formats.read(groups(described), "aws")
    assert ruleset.groups["a"].ingress[0].note == "x  y"
    assert len([one for one in said if "cannot be shown" in one]) == 2
    assert all(one.isprintable() for one in said)


def test_firewalls_are_shown_without_escapes() -> None:
    save = '*filter\n:INPUT DROP [0:0]\n-A INPUT -p tcp -m comment --comment "a\x1b[31m" -j ACCEPT\n'
    assert rulesets.read(save, "iptables-save").chains[0].rules[0].text.isprintable()
    at = {"family": "inet", "table": "t"}
    base = {"chain": {**at, "name": "c\x1b", "type": "filter", "hook": "input"}}
    rule = {"rule": {**at, "chain": "c\x1b", "expr": [{"accept": None}]}}
    (chain,) = rulesets.read(json.dumps({"nftables": [base, rule]}), "nftables-json").chains
    assert chain.name.isprintable()
    assert chain.rules[0].place.isprintable()


words = st.one_of(
    st.text(max_size=8), st.sampled_from(["any", "10.0.0.1", "::", "web", "a\x1b[31m", "\n", "\ud800", "a.b", "'"])
)
networks = st.sampled_from(["10.0.0.0/8", "0.0.0.0/0", "::/0", "2001:db8::1/128"])


@st.composite
def security_groups(draw: st.DrawFn) -> str:
    ids = draw(st.lists(words, min_size=1, max_size=4, unique=True))
    found = []
    for own in ids[: draw(st.integers(1, 4))]:
        low = draw(st.integers(0, 65535))
        permission = {
            "IpProtocol": draw(st.sampled_from(["tcp", "17", "-1", "58", "132"])),
            "FromPort": low % 256,
            "ToPort": draw(st.integers(low % 256, 255)),
            "UserIdGroupPairs": [{"GroupId": draw(st.sampled_from(ids)), "Description": draw(words)}],
            "Ipv6Ranges": [{"CidrIpv6": draw(networks), "Description": draw(words)}],
        }
        found.append({"GroupId": own, "GroupName": draw(words), "IpPermissions": [permission]})
    return groups(*found)


@st.composite
def network_policies(draw: st.DrawFn) -> str:
    def selector() -> dict[str, Any]:
        return {"matchLabels": draw(st.dictionaries(words, words, max_size=2))}

    items = []
    for _ in range(draw(st.integers(1, 3))):
        peers = [{"podSelector": selector()}, {"namespaceSelector": selector()}, {"ipBlock": {"cidr": draw(networks)}}]
        metadata = {"name": "p", "namespace": draw(words), "annotations": {"conntrack-py/group": draw(words)}}
        spec = {"podSelector": selector(), "ingress": [{"from": draw(st.lists(st.sampled_from(peers)))}]}
        items.append({"kind": "NetworkPolicy", "metadata": metadata, "spec": spec})
    return json.dumps({"kind": "List", "items": items})


def is_native(ruleset: Ruleset, warnings: list[str]) -> bool:
    return document.loads(document.to_toml(ruleset), "toml") == ruleset and all(map(str.isprintable, warnings))


@given(text=security_groups())
@settings(deadline=None, max_examples=100)
def test_what_is_read_from_aws_is_native(text: str) -> None:
    assert is_native(*formats.read(text, "aws"))


@given(text=network_policies())
@settings(deadline=None, max_examples=100)
def test_what_is_read_from_kubernetes_is_native(text: str) -> None:
    assert is_native(*formats.read(text, "kubernetes"))


# What the others have limits for.


def test_limits_of_the_clouds() -> None:
    many = tuple(f"10.{n // 256}.{n % 256}.0/24" for n in range(0, 1024, 2))
    names = [f"g{n}" for n in range(40)]
    ingress = (Rule(peers=(*many, *names), proto="tcp", ports=((80, 80),)),)
    ruleset = Ruleset(
        groups={"web": Group(members=("192.0.2.0/24",), ingress=ingress), **dict.fromkeys(names, Group())}
    )
    rules = json.loads(formats.write(ruleset, "gcp").text)
    assert all(len(rule.get("sourceTags", [])) <= 30 and len(rule.get("sourceRanges", [])) <= 256 for rule in rules)
    assert {tag for rule in rules for tag in rule.get("sourceTags", [])} == set(names)
    assert set(many) <= {network for rule in rules for network in rule.get("sourceRanges", [])}
    assert len({rule["name"] for rule in rules}) == len(rules)
    for format in ("aws", "terraform"):
        said = [one for one in formats.write(ruleset, format).warnings if "quota" in one]
        assert said == ["groups.web.ingress: 552 rules, and the quota of an account is 60 unless it was raised"]
    each = tuple(Rule(peers=(one,), proto="tcp") for one in many * 2)
    wide = Ruleset(groups={"web": Group(members=("192.0.2.0/24",), ingress=each)})
    assert "groups.web: 1026 rules, and Azure allows 1000 of a security group" in formats.write(wide, "azure").warnings
