"""Verdicts on NetworkPolicies with pods of a cluster: those that other suites expect, and those of a plain evaluator.

A case names the case of the suite that expects the same: Kubernetes' own (`test/e2e/network/netpol`), cyclonus
(`pkg/generator`, `pkg/recipes`) or np-guard (netpol-analyzer). Policies and tables are written here. Connections of a
pod to itself are left out: Kubernetes' suite ignores them, as implementations differ (kubernetes issue 95879).
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import conntrack_py as ct
from conntrack_py.exceptions import PolicyError
from conntrack_py.policy import Policy
from support.network_policies import SERVICES, allows, attempt, cluster, random_policies
from support.packets import evenly, pcap_bytes

SPACES = {ns: {"ns": ns, "kubernetes.io/metadata.name": ns} | ({"tier": "inner"} if ns == "z" else {}) for ns in "xyz"}
#: Ports of containers: `web` is not the same port everywhere, and `alt` is one of UDP in z.
PORTS = {
    "x": [{"name": "web", "containerPort": 80}, {"name": "alt", "containerPort": 81, "protocol": "TCP"}],
    "y": [{"name": "web", "containerPort": 81}, {"containerPort": 80}],
    "z": [{"name": "web", "containerPort": 80}, {"name": "alt", "containerPort": 81, "protocol": "UDP"}],
}
PODS: list[dict[str, Any]] = [
    {
        "ns": ns,
        "pod": pod,
        "labels": {"pod": pod} | ({"role": "db"} if pod == "c" else {}),
        "address": f"10.{at}.0.{number}",
        "ports": PORTS[ns] if pod != "c" or ns != "x" else [],
    }
    for at, ns in enumerate("xyz")
    for number, pod in enumerate("abc", 1)
]
OUTSIDE = {"address": "203.0.113.9"}
ENDS = [*PODS, OUTSIDE]
BY_ADDRESS = {end["address"]: end for end in ENDS}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> ct.ConnectionTable:
    frames = [
        attempt(src["address"], dst["address"], port, proto, 40_000 + at)
        for at, (src, dst) in enumerate(itertools.permutations(ENDS, 2))
        for port, proto in SERVICES
    ]
    path = tmp_path_factory.mktemp("verdicts") / "a.pcap"
    path.write_bytes(pcap_bytes(evenly(frames)))
    found = ct.track(path, local=["10.0.0.0/8"]).connections
    assert len(found) == 10 * 9 * len(SERVICES)
    return found


def loaded(policies: list[dict[str, Any]], where: Path) -> Policy:
    (where / "pods.json").write_text(cluster(PODS, SPACES))
    (where / "policy.yaml").write_text(yaml.safe_dump_all(policies))
    return Policy.load(where / "policy.yaml", pods=where / "pods.json")


Expected = Callable[[dict[str, Any], dict[str, Any], int, str], bool]


def mismatches(policy: Policy, table: ct.ConnectionTable, expected: Expected) -> list[tuple[object, ...]]:
    wrong: list[tuple[object, ...]] = []
    for row, verdict in zip(table, policy.evaluate(table)["verdict"].tolist(), strict=True):
        src, dst = BY_ADDRESS[str(row.orig_addr)], BY_ADDRESS[str(row.resp_addr)]
        wanted = expected(src, dst, row.resp_port, row.proto.upper())
        if (verdict == ct.Verdict.ALLOWED) != wanted:
            wrong.append((src["address"], dst["address"], row.resp_port, row.proto, verdict))
    return wrong


def one(end: dict[str, Any], text: str) -> bool:
    """True for an end in a namespace, or a pod of it: `x`, `x/a`."""
    ns, _, pod = text.partition("/")
    return end.get("ns") == ns and pod in ("", end["pod"])


A = "podSelector: {matchLabels: {pod: a}}"
B = "podSelector: {matchLabels: {pod: b}}"
ALL = "podSelector: {}"


def into_a(peers: str, *, ports: str = "") -> str:
    """A policy of namespace x for ingress to the pod a."""
    parts = [f"from: [{peers}]" if peers else "", f"ports: [{ports}]" if ports else ""]
    return f"x: {{{A}, policyTypes: [Ingress], ingress: [{{{', '.join(filter(None, parts))}}}]}}"


def out_of_a(peers: str, *, ports: str = "") -> str:
    """A policy of namespace x for egress of the pod a."""
    return into_a(peers, ports=ports).replace("Ingress", "Egress").replace("ingress", "egress").replace("from:", "to:")


def only_into_a(test: Callable[[dict[str, Any], int, str], bool]) -> Expected:
    return lambda src, dst, port, proto: not one(dst, "x/a") or test(src, port, proto)


def only_out_of_a(test: Callable[[dict[str, Any], int, str], bool]) -> Expected:
    return lambda src, dst, port, proto: not one(src, "x/a") or test(dst, port, proto)


def expression(key: str, operator: str, values: str = "") -> str:
    return f"matchExpressions: [{{key: {key}, operator: {operator}{f', values: [{values}]' if values else ''}}}]"


NAMED_Y = "namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: y}}"
NOT_X = f"namespaceSelector: {{{expression('kubernetes.io/metadata.name', 'NotIn', 'x')}}}"
#: Number of the port `web` in each namespace.
WEB = {"x": 80, "y": 81, "z": 80}
# The case, then the policies with their namespaces, then what is expected.
CASES: dict[str, tuple[list[str], Expected]] = {
    "e2e: should support a 'default-deny-ingress' policy": (
        [f"x: {{{ALL}, policyTypes: [Ingress], ingress: []}}"],
        lambda src, dst, port, proto: not one(dst, "x"),
    ),
    "e2e: should support a 'default-deny-all' policy": (
        [f"x: {{{ALL}, policyTypes: [Ingress, Egress], ingress: [], egress: []}}"],
        lambda src, dst, port, proto: not one(dst, "x") and not one(src, "x"),
    ),
    "e2e: allow traffic from pods within server namespace based on PodSelector": (
        [into_a(f"{{{B}}}")],
        only_into_a(lambda src, port, proto: one(src, "x/b")),
    ),
    "e2e: allow ingress traffic for a target": (
        [f"x: {{{ALL}, policyTypes: [Ingress]}}", into_a(f"{{{ALL}, namespaceSelector: {{}}}}")],
        # All pods of all namespaces are not everybody: an address outside is no pod.
        lambda src, dst, port, proto: not one(dst, "x") or (one(dst, "x/a") and "ns" in src),
    ),
    "e2e: allow ingress traffic from pods in all namespaces": (
        [into_a("{namespaceSelector: {matchLabels: {}}}")],
        only_into_a(lambda src, port, proto: "ns" in src),
    ),
    "e2e: only from a different namespace, based on NamespaceSelector": (
        [into_a(f"{{{NAMED_Y}}}")],
        only_into_a(lambda src, port, proto: one(src, "y")),
    ),
    "e2e: PodSelector with MatchExpressions": (
        [into_a(f"{{podSelector: {{{expression('pod', 'In', 'b')}}}}}")],
        only_into_a(lambda src, port, proto: one(src, "x/b")),
    ),
    "e2e: NamespaceSelector with MatchExpressions": (
        [into_a(f"{{namespaceSelector: {{{expression('kubernetes.io/metadata.name', 'In', 'y')}}}}}")],
        only_into_a(lambda src, port, proto: one(src, "y")),
    ),
    "e2e: PodSelector or NamespaceSelector": (
        [into_a(f"{{{NOT_X}}}, {{{B}}}")],
        only_into_a(lambda src, port, proto: one(src, "x/b") or one(src, "y") or one(src, "z")),
    ),
    "e2e: PodSelector and NamespaceSelector": (
        [into_a(f"{{{NOT_X}, {B}}}")],
        only_into_a(lambda src, port, proto: one(src, "y/b") or one(src, "z/b")),
    ),
    "e2e: Multiple PodSelectors and NamespaceSelectors": (
        [into_a(f"{{{NOT_X}, podSelector: {{{expression('pod', 'In', 'b, c')}}}}}")],
        only_into_a(lambda src, port, proto: src.get("ns") in ("y", "z") and src["pod"] in ("b", "c")),
    ),
    "e2e: any PodSelectors": (
        [into_a(f"{{{B}}}, {{podSelector: {{matchLabels: {{pod: c}}}}}}")],
        only_into_a(lambda src, port, proto: one(src, "x/b") or one(src, "x/c")),
    ),
    "e2e: only from a pod in a different namespace": (
        [into_a(f"{{{NAMED_Y}, {A}}}")],
        only_into_a(lambda src, port, proto: one(src, "y/a")),
    ),
    "e2e: enforce policy based on Ports": (
        [into_a(f"{{{NAMED_Y}}}", ports="{port: 81, protocol: TCP}")],
        only_into_a(lambda src, port, proto: one(src, "y") and (port, proto) == (81, "TCP")),
    ),
    "e2e: multiple, stacked policies with overlapping podSelectors": (
        [into_a(f"{{{NAMED_Y}}}", ports=f"{{port: {port}, protocol: TCP}}") for port in (81, 80)],
        only_into_a(lambda src, port, proto: one(src, "y") and proto == "TCP"),
    ),
    "e2e: allow-all policy": ([f"x: {{{ALL}, ingress: [{{}}]}}"], lambda src, dst, port, proto: True),
    "e2e: ingress access on one named port": (
        [f"x: {{{ALL}, ingress: [{{ports: [{{port: web}}]}}]}}"],
        # The pod c of x has no port of that name.
        lambda src, dst, port, proto: not one(dst, "x") or (not one(dst, "x/c") and (port, proto) == (80, "TCP")),
    ),
    "e2e: ingress access from namespace on one named port": (
        [into_a(f"{{{NAMED_Y}}}", ports="{port: web, protocol: TCP}")],
        only_into_a(lambda src, port, proto: one(src, "y") and (port, proto) == (80, "TCP")),
    ),
    "e2e: egress access on one named port": (
        [f"x: {{{ALL}, policyTypes: [Egress], egress: [{{ports: [{{port: web}}]}}]}}"],
        lambda src, dst, port, proto: (
            not one(src, "x") or ("ns" in dst and not one(dst, "x/c") and port == WEB[dst["ns"]] and proto == "TCP")
        ),
    ),
    "e2e: allow ingress access from updated namespace (before the update)": (
        [into_a("{namespaceSelector: {matchLabels: {ns2: updated}}}")],
        only_into_a(lambda src, port, proto: False),
    ),
    "e2e: allow ingress access from a namespace by a label of its own": (
        [into_a("{namespaceSelector: {matchLabels: {tier: inner}}}")],
        only_into_a(lambda src, port, proto: one(src, "z")),
    ),
    "e2e: deny ingress access to updated pod (before the update)": (
        ["x: {podSelector: {matchLabels: {target: isolated}}, policyTypes: [Ingress], ingress: []}"],
        lambda src, dst, port, proto: True,
    ),
    "e2e: deny egress from pods based on PodSelector": (
        [f"x: {{{A}, policyTypes: [Egress], egress: []}}"],
        lambda src, dst, port, proto: not one(src, "x/a"),
    ),
    "e2e: deny egress from all pods in a namespace": (
        [f"x: {{{ALL}, policyTypes: [Egress], egress: []}}"],
        lambda src, dst, port, proto: not one(src, "x"),
    ),
    "e2e: work with Ingress, Egress specified together": (
        [
            (
                f"x: {{{A}, policyTypes: [Ingress, Egress], ingress: [{{from: [{{{B}}}]}}], "
                "egress: [{ports: [{port: 80}, {protocol: UDP, port: 53}]}]}"
            ),
        ],
        lambda src, dst, port, proto: (
            (not one(dst, "x/a") or one(src, "x/b")) and (not one(src, "x/a") or (port, proto) == (80, "TCP"))
        ),
    ),
    "e2e: denying of egress on the client side, even if the server allows it": (
        [
            out_of_a(f"{{{NAMED_Y}, {A}}}"),
            f"y: {{{A}, ingress: [{{from: [{{namespaceSelector: {{matchLabels: {{ns: x}}}}, {A}}}]}}]}}",
            f"y: {{{B}, ingress: [{{from: [{{namespaceSelector: {{matchLabels: {{ns: x}}}}, {A}}}]}}]}}",
        ],
        lambda src, dst, port, proto: (
            (not one(src, "x/a") or one(dst, "y/a")) and (not (one(dst, "y/a") or one(dst, "y/b")) or one(src, "x/a"))
        ),
    ),
    "e2e: egress to a server in a different namespace": (
        [out_of_a(f"{{{NAMED_Y}, {A}}}")],
        only_out_of_a(lambda dst, port, proto: one(dst, "y/a")),
    ),
    "e2e: ingress allowing any port traffic on a specific protocol": (
        [into_a("", ports="{protocol: TCP}")],
        only_into_a(lambda src, port, proto: proto == "TCP"),
    ),
    "e2e: multiple ingress policies, allow-all takes precedence": (
        [into_a(f"{{{B}}}"), into_a("")],
        lambda src, dst, port, proto: True,
    ),
    "e2e: multiple egress policies, allow-all takes precedence": (
        [out_of_a("", ports="{port: 80, protocol: TCP}"), out_of_a("")],
        lambda src, dst, port, proto: True,
    ),
    "e2e: egress to a server in CIDR block": (
        [out_of_a("{ipBlock: {cidr: 10.1.0.2/32}}")],
        only_out_of_a(lambda dst, port, proto: one(dst, "y/b")),
    ),
    "e2e: except clause while egress access to server in CIDR block": (
        [out_of_a("{ipBlock: {cidr: 10.1.0.0/24, except: [10.1.0.2/32]}}")],
        only_out_of_a(lambda dst, port, proto: one(dst, "y/a") or one(dst, "y/c")),
    ),
    "e2e: an IP overlapping both IPBlock.CIDR and IPBlock.Except is allowed": (
        [
            out_of_a("{ipBlock: {cidr: 10.1.0.0/24, except: [10.1.0.2/32]}}"),
            out_of_a("{ipBlock: {cidr: 10.1.0.2/32}}"),
        ],
        only_out_of_a(lambda dst, port, proto: one(dst, "y")),
    ),
    "e2e: ingress and egress policies can be controlled independently": (
        [into_a(f"{{{B}}}"), out_of_a("")],
        only_into_a(lambda src, port, proto: one(src, "x/b")),
    ),
    "e2e: egress and ingress rules of one peer": (
        [f"x: {{{A}, policyTypes: [Ingress, Egress], ingress: [{{from: [{{{B}}}]}}], egress: [{{to: [{{{B}}}]}}]}}"],
        lambda src, dst, port, proto: (
            (not one(dst, "x/a") or one(src, "x/b")) and (not one(src, "x/a") or one(dst, "x/b"))
        ),
    ),
    "e2e: should not allow access by TCP when a policy specifies only UDP": (
        [into_a("", ports="{port: 81, protocol: UDP}")],
        only_into_a(lambda src, port, proto: (port, proto) == (81, "UDP")),
    ),
    "e2e: should not allow access by TCP when a policy specifies only SCTP": (
        [into_a("", ports="{port: 80, protocol: SCTP}")],
        only_into_a(lambda src, port, proto: proto == "SCTP"),
    ),
    "e2e: should not allow egress except to endPort range": (
        [out_of_a("", ports="{port: 81, endPort: 85, protocol: TCP}")],
        only_out_of_a(lambda dst, port, proto: (port, proto) == (81, "TCP")),
    ),
    "cyclonus: target by expression": (
        [f"x: {{podSelector: {{{expression('pod', 'NotIn', 'a')}}}, policyTypes: [Ingress]}}"],
        lambda src, dst, port, proto: not (one(dst, "x/b") or one(dst, "x/c")),
    ),
    "cyclonus: target by a label that exists": (
        [f"x: {{podSelector: {{{expression('role', 'Exists')}}}, policyTypes: [Egress]}}"],
        lambda src, dst, port, proto: not one(src, "x/c"),
    ),
    "cyclonus: peers without a label": (
        [into_a(f"{{podSelector: {{{expression('role', 'DoesNotExist')}}}}}")],
        only_into_a(lambda src, port, proto: one(src, "x/b")),
    ),
    "cyclonus: peers not in a list, of which some have no such label": (
        [into_a(f"{{namespaceSelector: {{{expression('tier', 'NotIn', 'inner')}}}}}")],
        only_into_a(lambda src, port, proto: one(src, "x") or one(src, "y")),
    ),
    "cyclonus: labels and expressions of one selector": (
        [into_a(f"{{podSelector: {{matchLabels: {{pod: c}}, {expression('role', 'In', 'web')}}}}}")],
        only_into_a(lambda src, port, proto: False),
    ),
    "cyclonus: an empty list of peers, and of ports": (
        [f"x: {{{A}, ingress: [{{from: [], ports: []}}]}}"],
        lambda src, dst, port, proto: True,
    ),
    "cyclonus: a target in another namespace, with the same labels": (
        [f"y: {{{A}, policyTypes: [Ingress]}}"],
        lambda src, dst, port, proto: not one(dst, "y/a"),
    ),
    "cyclonus conflict: deny all in one policy, allow all in another": (
        [f"x: {{{A}, policyTypes: [Egress], egress: []}}", out_of_a("")],
        lambda src, dst, port, proto: True,
    ),
    "cyclonus conflict: the server denies what the client may": (
        [out_of_a(f"{{{NAMED_Y}}}"), f"y: {{{B}, policyTypes: [Ingress]}}"],
        lambda src, dst, port, proto: not one(dst, "y/b") and (not one(src, "x/a") or one(dst, "y")),
    ),
    "cyclonus recipe 08: from outside": (
        [f"x: {{{ALL}, policyTypes: [Ingress]}}", f"x: {{{A}, ingress: [{{from: []}}]}}"],
        lambda src, dst, port, proto: not one(dst, "x") or one(dst, "x/a"),
    ),
    "cyclonus recipe 09: a port for some pods only": (
        [into_a(f"{{{B}}}", ports="{port: 81}")],
        only_into_a(lambda src, port, proto: one(src, "x/b") and (port, proto) == (81, "TCP")),
    ),
    "cyclonus recipe 11: egress to DNS only, types not given": (
        [f"x: {{{A}, policyTypes: [Egress], egress: [{{ports: [{{port: 80, protocol: UDP}}, {{port: 80}}]}}]}}"],
        only_out_of_a(lambda dst, port, proto: port == 80 and proto != "SCTP"),
    ),
    "cyclonus recipe 14: egress within the cluster": (
        [out_of_a("{namespaceSelector: {}}")],
        only_out_of_a(lambda dst, port, proto: "ns" in dst),
    ),
    "np-guard: types left out, egress rules given": (
        [f"x: {{{A}, egress: [{{to: [{{{B}}}]}}]}}"],
        lambda src, dst, port, proto: not one(dst, "x/a") and (not one(src, "x/a") or one(dst, "x/b")),
    ),
    "np-guard: types left out, an empty list of egress rules": (
        [f"x: {{{A}, egress: []}}"],
        lambda src, dst, port, proto: not one(dst, "x/a"),
    ),
    "np-guard TestNetworkPolicyPortAnalysis: a name counts for its protocol": (
        [f"z: {{{ALL}, policyTypes: [Ingress], ingress: [{{ports: [{{port: alt, protocol: UDP}}]}}]}}"],
        lambda src, dst, port, proto: not one(dst, "z") or (port, proto) == (81, "UDP"),
    ),
    "np-guard: a name of another protocol is no port": (
        [f"z: {{{ALL}, policyTypes: [Ingress], ingress: [{{ports: [{{port: alt}}]}}]}}"],
        lambda src, dst, port, proto: not one(dst, "z"),
    ),
    "np-guard: a named port of peers that differ": (
        [out_of_a("{namespaceSelector: {}, podSelector: {matchLabels: {pod: b}}}", ports="{port: web}")],
        only_out_of_a(
            lambda dst, port, proto: "ns" in dst and dst["pod"] == "b" and (port, proto) == (WEB[dst["ns"]], "TCP")
        ),
    ),
    "np-guard: a named port of a network": (
        [out_of_a("{ipBlock: {cidr: 203.0.113.0/24}}", ports="{port: web}")],
        only_out_of_a(lambda dst, port, proto: False),
    ),
    "np-guard: egress to all pods and a network": (
        [out_of_a("{podSelector: {}}, {ipBlock: {cidr: 203.0.113.0/24}}", ports="{port: 80, protocol: TCP}")],
        only_out_of_a(lambda dst, port, proto: (one(dst, "x") or "ns" not in dst) and (port, proto) == (80, "TCP")),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_cases_of_other_suites(name: str, table: ct.ConnectionTable, tmp_path: Path) -> None:
    texts, expected = CASES[name]
    policies = []
    for at, text in enumerate(texts):
        ((namespace, spec),) = yaml.safe_load(text).items()
        # `y` alone is a truth value in YAML 1.1.
        namespace = {True: "y"}.get(namespace, namespace)
        policies.append({"kind": "NetworkPolicy", "metadata": {"name": f"p{at}", "namespace": namespace}, "spec": spec})
    assert mismatches(loaded(policies, tmp_path), table, expected) == []
    # The plain evaluator of the random policies is judged by the same cases.
    for src, dst in itertools.permutations(ENDS, 2):
        for port, proto in SERVICES:
            assert allows(policies, SPACES, src, dst, port, proto) == expected(src, dst, port, proto)


@pytest.mark.parametrize("first", range(0, 300, 25))
def test_random_policies(first: int, table: ct.ConnectionTable, tmp_path: Path) -> None:
    pod_keys = {"pod": ["a", "b", "c", "d"], "role": ["db", "web"]}
    space_keys = {"ns": ["x", "y", "z"], "tier": ["inner"], "kubernetes.io/metadata.name": ["x", "y"]}
    refused = 0
    for seed in range(first, first + 25):
        policies = random_policies(seed, pod_keys, space_keys)

        def expected(src: dict[str, Any], dst: dict[str, Any], port: int, proto: str, on: list[Any] = policies) -> bool:
            nonlocal refused
            found = allows(on, SPACES, src, dst, port, proto)
            refused += not found
            return found

        assert (seed, mismatches(loaded(policies, tmp_path), table, expected)) == (seed, [])
    assert 0 < refused < 25 * len(table), "both verdicts occur"


NAMED = """\
kind: NetworkPolicy
metadata: {name: web, namespace: x}
spec:
  podSelector: {}
  ingress:
  - ports:
    - port: web
"""
ADMIN = "kind: AdminNetworkPolicy\nmetadata: {name: first}\nspec: {priority: 10}\n"


def test_what_is_not_read_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text(f"{NAMED}---\n{ADMIN}---\nkind: BaselineAdminNetworkPolicy\n")
    warnings = "\n".join(Policy.load(tmp_path / "policy.yaml").warnings)
    assert "line 7: web ingress[0]: which port is named 'web' only the pods know" in warnings
    assert "line 9: AdminNetworkPolicy first is NOT READ, and decides before NetworkPolicies" in warnings
    assert "line 13: BaselineAdminNetworkPolicy is NOT READ, and decides after" in warnings


def test_a_port_that_no_pod_has_allows_nothing(tmp_path: Path) -> None:
    policy = loaded([yaml.safe_load(NAMED.replace("web\n", "nope\n"))], tmp_path)
    assert any("no pod has a port named 'nope': it allows nothing" in warning for warning in policy.warnings)
    assert all(not group.ingress for group in policy.groups.values())


def test_a_sidecar_has_named_ports_and_a_workload_no_addresses(tmp_path: Path) -> None:
    ports = [{"name": "web", "containerPort": 8080}]
    pod = {
        "kind": "Pod",
        "metadata": {"name": "p", "namespace": "x"},
        "spec": {
            "containers": [{"name": "c"}],
            "initContainers": [
                {"name": "once", "ports": [{"name": "web", "containerPort": 9}]},
                {"name": "sidecar", "restartPolicy": "Always", "ports": ports},
            ],
        },
        "status": {"podIP": "10.0.0.1"},
    }
    items = [pod, {"kind": "Deployment", "metadata": {"name": "d", "namespace": "x"}}]
    (tmp_path / "pods.json").write_text(json.dumps({"kind": "List", "items": items}))
    (tmp_path / "policy.yaml").write_text(NAMED)
    policy = Policy.load(tmp_path / "policy.yaml", pods=tmp_path / "pods.json")
    assert [rule.ports for rule in policy.groups["x/all pods"].ingress] == [((8080, 8080),)]
    assert any("Deployment: have no addresses" in warning for warning in policy.warnings)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"containers": 7}, "expected a list of containers"),
        ({"containers": [{"ports": {}}]}, "expected a list of ports"),
        ({"containers": [{"ports": [{"name": "web", "containerPort": 70000}]}]}, "expected a port from 1 to 65535"),
        ({"containers": [{"ports": [{"name": ["web"], "containerPort": 80}]}]}, "expected text"),
    ],
)
def test_pods_that_are_none(spec: dict[str, Any], message: str, tmp_path: Path) -> None:
    pod = {"kind": "Pod", "metadata": {"name": "p", "namespace": "x"}, "spec": spec, "status": {"podIP": "10.0.0.1"}}
    (tmp_path / "pods.json").write_text(json.dumps({"items": [pod]}))
    (tmp_path / "policy.yaml").write_text(NAMED)
    with pytest.raises(PolicyError, match=message):
        Policy.load(tmp_path / "policy.yaml", pods=tmp_path / "pods.json")


@pytest.mark.parametrize(
    "text",
    [
        f"{NAMED}    - port: web\n      port: alt\n",
        "kind: NetworkPolicy\nspec: " + "{a: " * 5000 + "}" * 5000,
        "a: &a [x, x, x, x, x, x, x, x, x]\n"
        + "".join(f"{chr(98 + at)}: &{chr(98 + at)} [{', '.join([f'*{chr(97 + at)}'] * 9)}]\n" for at in range(8))
        + "kind: NetworkPolicy\n",
        NAMED.replace("port: web", "port: web\n      endPort: 90"),
    ],
    ids=["a key twice", "deep", "aliases of aliases", "an end without a beginning"],
)
def test_hostile_policies_are_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(PolicyError):
        loaded([], tmp_path)
    (tmp_path / "policy.yaml").write_text(text)
    with pytest.raises(PolicyError):
        Policy.load(tmp_path / "policy.yaml", pods=tmp_path / "pods.json")
