"""Policies for Cilium, Calico and Antrea, and members of Kubernetes policies from the pods of a cluster.

The schemas are by hand, of the parts that are written: no package has those of the plugins. They follow the CRDs of
Cilium (cilium.io/v2), Calico (projectcalico.org/v3) and Antrea (crd.antrea.io/v1beta1); `False` refuses other keys.
"""

from __future__ import annotations

import ipaddress
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import HealthCheck, given, settings

from conntrack_py.exceptions import PolicyError
from conntrack_py.policy import Policy, formats
from conntrack_py.policy.model import Group, Rule, Ruleset
from support.program import run
from support.written_policies import rulesets

PLUGINS = ("cilium", "calico", "antrea")


def table(required: str = "", **keys: Any) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "properties": keys, "required": required.split()}


def listed(items: Any, **more: Any) -> dict[str, Any]:
    return {"type": "array", "items": items, **more}


WORD = {"type": "string", "minLength": 1}
PORT = {"type": "integer", "minimum": 1, "maximum": 65535}
LABELS = {
    "type": "object",
    "additionalProperties": {
        "type": "string",
        "pattern": r"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$",
        "maxLength": 63,
    },
}
SELECTOR = table("matchLabels", matchLabels=LABELS)
METADATA = table(
    "name",
    name={"type": "string", "pattern": r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", "maxLength": 63},
    annotations={"type": "object", "additionalProperties": {"type": "string"}},
    labels=LABELS,
)
TYPE = {"type": "integer", "minimum": 0, "maximum": 255}
CIDR = {"type": "string", "pattern": r"/\d+$"}

CILIUM_PORT = table(
    "port protocol",
    port={"type": "string", "pattern": r"^[1-9][0-9]{0,4}$"},
    endPort=PORT,
    protocol={"enum": ["TCP", "UDP", "SCTP"]},
)
CILIUM_SERVICES = {
    "toPorts": listed(table("ports", ports=listed(CILIUM_PORT, maxItems=40, minItems=1)), minItems=1),
    "icmps": listed(
        table(
            "fields",
            fields=listed(table("type", family={"enum": ["IPv4", "IPv6"]}, type=TYPE), maxItems=40, minItems=1),
        )
    ),
}
#: Peers of a rule exclude each other.
ONE_PEER = {"maxProperties": 2}


def cilium_rule(way: str, **more: Any) -> dict[str, Any]:
    keys = {
        f"{way}Endpoints": listed(SELECTOR, minItems=1),
        f"{way}CIDR": listed(CIDR, minItems=1),
        f"{way}Entities": listed({"enum": ["all"]}),
        **more,
        **CILIUM_SERVICES,
    }
    kinds = [key for key in keys if key not in CILIUM_SERVICES]
    return {
        **table(**keys),
        "not": {"anyOf": [{"required": [a, b]} for at, a in enumerate(kinds) for b in kinds[at + 1 :]]},
        "if": {"minProperties": 1},
        "then": {"anyOf": [{"required": [kind]} for kind in kinds]},
    }


FQDN = table(
    matchName={"type": "string", "pattern": r"^[-a-zA-Z0-9_]+(\.[-a-zA-Z0-9_]+)*\.?$", "maxLength": 255},
    matchPattern={"type": "string", "pattern": r"^[-a-zA-Z0-9_*]+(\.[-a-zA-Z0-9_*]+)*\.?$", "maxLength": 255},
)
CILIUM = table(
    "apiVersion kind metadata spec",
    apiVersion={"const": "cilium.io/v2"},
    kind={"const": "CiliumNetworkPolicy"},
    metadata=METADATA,
    spec=table(
        "endpointSelector",
        endpointSelector=SELECTOR,
        enableDefaultDeny=table(ingress={"type": "boolean"}, egress={"type": "boolean"}),
        ingress=listed(cilium_rule("from"), minItems=1),
        egress=listed(cilium_rule("to", toFQDNs=listed(FQDN, minItems=1)), minItems=1),
    ),
)
CALICO_PORTS = listed({"anyOf": [PORT, {"type": "string", "pattern": r"^[1-9]\d*:\d+$"}]}, minItems=1)
CALICO_END = table(
    nets=listed(CIDR, minItems=1), selector=WORD, namespaceSelector={"const": "global()"}, ports=CALICO_PORTS
)
CALICO_RULE = {
    **table(
        "action",
        action={"const": "Allow"},
        metadata=table(annotations={"type": "object"}),
        protocol={
            "anyOf": [
                {"enum": ["TCP", "UDP", "SCTP", "ICMP", "ICMPv6", "UDPLite"]},
                {"type": "integer", "minimum": 1, "maximum": 255},
            ]
        },
        icmp=table("type", type={"type": "integer", "minimum": 0, "maximum": 254}),
        source=CALICO_END,
        destination=CALICO_END,
    ),
    "if": {"properties": {"destination": {"required": ["ports"]}}, "required": ["destination"]},
    "then": {"properties": {"protocol": {"enum": ["TCP", "UDP", "SCTP"]}}, "required": ["protocol"]},
}
CALICO = table(
    "apiVersion kind metadata spec",
    apiVersion={"const": "projectcalico.org/v3"},
    kind={"enum": ["GlobalNetworkPolicy", "GlobalNetworkSet"]},
    metadata=METADATA,
    spec={
        "anyOf": [
            table("nets allowedEgressDomains", nets=listed(CIDR), allowedEgressDomains=listed(WORD, minItems=1)),
            table(
                "selector types",
                selector=WORD,
                types=listed({"enum": ["Ingress", "Egress"]}, minItems=1),
                ingress=listed(CALICO_RULE),
                egress=listed(CALICO_RULE),
            ),
        ]
    },
)
ANTREA_PORT = table("protocol", protocol={"enum": ["TCP", "UDP", "SCTP"]}, port=PORT, endPort=PORT)


def antrea_rule(**peers: Any) -> dict[str, Any]:
    return table(
        "name action",
        name=WORD,
        action={"enum": ["Allow", "Drop"]},
        ports=listed(ANTREA_PORT, minItems=1),
        protocols=listed(table("icmp", icmp=table(icmpType=TYPE)), minItems=1),
        **peers,
    )


ANTREA_PEER = {"podSelector": SELECTOR, "ipBlock": table("cidr", cidr=CIDR)}
ANTREA = table(
    "apiVersion kind metadata spec",
    apiVersion={"const": "crd.antrea.io/v1beta1"},
    kind={"const": "ClusterNetworkPolicy"},
    metadata=METADATA,
    spec=table(
        "priority tier appliedTo",
        priority={"type": "number", "minimum": 1, "maximum": 10000},
        tier={"enum": ["application", "baseline"]},
        appliedTo=listed(table("podSelector", podSelector=SELECTOR), minItems=1),
        ingress=listed(
            antrea_rule(**{"from": listed({**table(**ANTREA_PEER), "maxProperties": 1}, minItems=1)}), minItems=1
        ),
        egress=listed(
            antrea_rule(to=listed({**table(**ANTREA_PEER, fqdn=WORD), "maxProperties": 1}, minItems=1)), minItems=1
        ),
    ),
)
SCHEMAS = {"cilium": CILIUM, "calico": CALICO, "antrea": ANTREA}


def documents(ruleset: Ruleset, format: str, **options: Any) -> list[dict[str, Any]]:
    text = formats.write(ruleset, format, **options).text
    found = [one for one in yaml.safe_load_all(text) if one is not None]
    for one in found:
        jsonschema.validate(one, SCHEMAS[format])
    assert "&id" not in text
    return found


@pytest.mark.parametrize("format", PLUGINS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(ruleset=rulesets())
def test_any_policy_is_one_by_the_schema(format: str, ruleset: Ruleset) -> None:
    found = documents(ruleset, format)
    names = [(one["kind"], one["metadata"]["name"]) for one in found]
    assert len(names) == len(set(names))
    if format == "calico":
        for one in found:
            for rule in (*one["spec"].get("ingress", ()), *one["spec"].get("egress", ())):
                nets = [net for end in ("source", "destination") for net in rule.get(end, {}).get("nets", ())]
                assert len({ipaddress.ip_network(net).version for net in nets}) < 2
    if format == "cilium":
        documents(ruleset, format, audit=True)


def named(*peers: str, proto: str = "tcp", names: tuple[str, ...] = ("api.example.com",)) -> Ruleset:
    ports = ((443, 443),) if proto == "tcp" else ()
    rule = Rule(peers=peers, proto=proto, ports=ports, names=names)
    return Ruleset(groups={"web": Group(members=("10.0.1.7/32",), egress=(rule,))})


def test_names_stand_for_the_hosts_and_not_for_networks() -> None:
    ruleset = named("192.0.2.7/32", "10.9.0.0/16", names=("api.example.com", "*.example.org"))
    (cilium,) = documents(ruleset, "cilium")
    assert cilium["spec"]["egress"] == [
        {"toCIDR": ["10.9.0.0/16"], "toPorts": [{"ports": [{"port": "443", "protocol": "TCP"}]}]},
        {
            "toFQDNs": [{"matchName": "api.example.com"}, {"matchPattern": "*.example.org"}],
            "toPorts": [{"ports": [{"port": "443", "protocol": "TCP"}]}],
        },
    ]
    assert cilium["metadata"]["annotations"]["conntrack-py/names"] == (
        "egress[0]: api.example.com, *.example.org (seen: 192.0.2.7/32)"
    )
    antrea, _ = documents(ruleset, "antrea")
    assert [rule["to"] for rule in antrea["spec"]["egress"]] == [
        [{"ipBlock": {"cidr": "10.9.0.0/16"}}],
        [{"fqdn": "api.example.com"}, {"fqdn": "*.example.org"}],
    ]
    found, policy = documents(ruleset, "calico")
    assert found["spec"] == {"nets": ["192.0.2.7/32"], "allowedEgressDomains": ["api.example.com", "*.example.org"]}
    (label,) = found["metadata"]["labels"].items()
    assert [rule["destination"].get("selector") for rule in policy["spec"]["egress"]] == [
        None,
        f"{label[0]} == '{label[1]}'",
    ]


def test_names_that_cilium_has_no_place_for_leave_the_addresses() -> None:
    ruleset = named("192.0.2.7/32", proto="icmp")
    (cilium,) = documents(ruleset, "cilium")
    assert [rule["toCIDR"] for rule in cilium["spec"]["egress"]] == [["192.0.2.7/32"]]
    assert any("cannot have them" in warning for warning in formats.write(ruleset, "cilium").warnings)
    everybody, _ = documents(named("any"), "antrea")
    assert "to" not in everybody["spec"]["egress"][0]


@pytest.mark.parametrize("format", [*formats.WRITERS])
def test_every_format_has_the_name_somewhere(format: str) -> None:
    """But for those that have no rule of it: the ingress of a host, and IPv6."""
    has = "api.example.com" in formats.write(named("192.0.2.7/32"), format).text
    assert has == (format not in ("ip6tables", "firewalld"))


def test_a_group_that_may_nothing_is_denied() -> None:
    ruleset = Ruleset(groups={"box": Group(members=("10.0.1.7/32",))})
    (cilium,) = documents(ruleset, "cilium")
    # An empty list is no rule to Cilium, and the empty rule denies.
    assert (cilium["spec"]["ingress"], cilium["spec"]["egress"]) == ([{}], [{}])
    (calico,) = documents(ruleset, "calico")
    assert (calico["spec"]["types"], calico["spec"]["ingress"], calico["spec"]["egress"]) == (
        ["Ingress", "Egress"],
        [],
        [],
    )
    (antrea,) = documents(ruleset, "antrea")
    assert antrea["spec"]["tier"] == "baseline"
    assert [antrea["spec"][side][0]["action"] for side in ("ingress", "egress")] == ["Drop", "Drop"]


def test_an_open_direction_is_not_limited() -> None:
    ruleset = Ruleset(groups={"box": Group(members=("10.0.1.7/32",), egress_default="allow")})
    (cilium,) = documents(ruleset, "cilium")
    assert "egress" not in cilium["spec"]
    (calico,) = documents(ruleset, "calico")
    assert calico["spec"]["types"] == ["Ingress"]
    (antrea,) = documents(ruleset, "antrea")
    assert "egress" not in antrea["spec"]


def test_an_audit_of_cilium_denies_nothing() -> None:
    found = documents(named("192.0.2.7/32"), "cilium", audit=True)
    assert [one["metadata"]["name"] for one in found] == ["web", "web-audit"]
    assert {json.dumps(one["spec"]["enableDefaultDeny"]) for one in found} == {'{"ingress": false, "egress": false}'}
    assert found[1]["spec"]["egress"] == [{"toEntities": ["all"]}]


@pytest.mark.parametrize("format", PLUGINS)
def test_it_is_marked_as_unverified(format: str) -> None:
    written = formats.write(named("192.0.2.7/32"), format)
    assert "# unverified: " in written.text
    assert any("unverified" in warning for warning in written.warnings)


# Pods.

PODS = {
    "apiVersion": "v1",
    "kind": "List",
    "items": [
        {"kind": "Namespace", "metadata": {"name": "ops", "labels": {"team": "ops"}}},
        *(
            {
                "kind": "Pod",
                "metadata": {"name": f"p{at}", "namespace": namespace, "labels": labels},
                "spec": {"hostNetwork": True} if address.startswith("10.0.0") else {},
                "status": {"phase": phase, "podIP": address, "podIPs": [{"ip": address}]},
            }
            for at, (namespace, labels, address, phase) in enumerate(
                [
                    ("shop", {"app": "web", "tier": "front"}, "10.1.0.1", "Running"),
                    ("shop", {"app": "web"}, "fd00::1", "Running"),
                    ("shop", {"app": "db"}, "10.1.0.3", "Running"),
                    ("ops", {"app": "web"}, "10.1.0.4", "Running"),
                    ("shop", {"app": "web"}, "10.1.0.5", "Succeeded"),
                    ("shop", {"app": "web"}, "10.0.0.6", "Running"),
                    ("blue", {"app": "job"}, "10.1.0.7", "Running"),
                ]
            )
        ),
        {
            "kind": "Pod",
            "metadata": {"name": "new", "namespace": "shop", "labels": {"app": "web"}},
            "status": {"phase": "Pending"},
        },
    ],
}
POLICY = """\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  podSelector: {matchLabels: {app: web}}
  policyTypes: [Ingress]
  ingress:
  - from:
    - podSelector: {matchExpressions: [{key: app, operator: NotIn, values: [web]}]}
    - namespaceSelector: {matchLabels: {team: ops}}
    - namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: blue}}
      podSelector: {matchLabels: {app: job}}
    ports: [{port: 443}]
"""


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    (tmp_path / "policy.yaml").write_text(POLICY)
    (tmp_path / "pods.json").write_text(json.dumps(PODS))
    return tmp_path / "policy.yaml", tmp_path / "pods.json"


def test_pods_are_the_members_of_selectors(files: tuple[Path, Path]) -> None:
    made = Policy.load(files[0], pods=files[1])
    assert {name: group.members for name, group in made.groups.items()} == {
        "shop/app=web": ("10.1.0.1/32", "fd00::1/128"),
        "shop/app NotIn (web)": ("10.1.0.3/32",),
        "all pods in namespaces team=ops": ("10.1.0.4/32",),
        "app=job in namespaces kubernetes.io/metadata.name=blue": ("10.1.0.7/32",),
    }
    assert any("p5" in warning and "address of their node" in warning for warning in made.warnings)
    assert any("no pod of these namespaces" in warning and "shop" in warning for warning in made.warnings)
    assert not any("add the members" in warning for warning in made.warnings)
    assert any("--pods" in warning for warning in Policy.load(files[0]).warnings)


def test_pods_on_the_command_line(files: tuple[Path, Path], tmp_path: Path) -> None:
    done = run("policy", "convert", files[0], "--pods", files[1], "--to", "json")
    assert json.loads(done.stdout)["groups"]["shop/app=web"]["members"] == ["10.1.0.1/32", "fd00::1/128"]
    native = tmp_path / "native.toml"
    native.write_text("[groups.a]\nmembers = []\n")
    done = run("policy", "convert", native, "--pods", files[1], "--to", "json")
    assert (done.returncode, b"expected kubernetes" in done.stderr) == (2, True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "expected a table"),
        ("{}", "has no items"),
        (
            '{"items": [{"kind": "Pod", "metadata": {"name": "a"}, "status": {"podIP": "x"}}]}',
            "items.0..status.podIP: found 'x'",
        ),
        ('{"items": [3]}', "found 3, expected a table"),
        ("{", "not JSON"),
    ],
)
def test_a_file_that_has_no_pods(files: tuple[Path, Path], text: str, message: str) -> None:
    files[1].write_text(text)
    with pytest.raises(PolicyError, match=message):
        Policy.load(files[0], pods=files[1])
