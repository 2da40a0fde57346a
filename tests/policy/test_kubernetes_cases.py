"""Verdicts on Kubernetes policies as truth tables have them: all pairs of nine pods in three namespaces, two ports.

The cases are those that the conformance tests of Kubernetes, cyclonus and np-guard's netpol-analyzer agree on; the
policies and the tables are written here. Loops of a pod to itself are left out: implementations differ.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Callable
from pathlib import Path

import pytest

import conntrack_py as ct
from conntrack_py.policy import Policy
from support.packets import ACK, SYN, evenly, pcap_bytes, tcp, udp

#: Addresses by namespace and pod. The namespaces have a label ns, the pods a label pod.
PODS = {(ns, pod): f"10.{at}.0.{n + 1}" for at, ns in enumerate("xyz") for n, pod in enumerate("abc")}
NAMES = {address: pod for pod, address in PODS.items()}
Pod = tuple[str, str]
#: From whom, to whom, and the service, such as 80/tcp.
Table = Callable[[Pod, Pod, str], bool]
SERVICES = ("80/tcp", "81/tcp", "80/udp", "81/udp")


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> ct.ConnectionTable:
    frames = []
    for at, (src, dst) in enumerate(itertools.permutations(PODS.values(), 2)):
        for port in (80, 81):
            frames.append(tcp(src, 40_000 + at, dst, port, SYN, 1))
            frames.append(tcp(dst, port, src, 40_000 + at, SYN | ACK, 1, 2))
            frames += [udp(src, 40_000 + at, dst, port, b"?"), udp(dst, port, src, 40_000 + at, b"!")]
    path = tmp_path_factory.mktemp("pods") / "pods.pcap"
    path.write_bytes(pcap_bytes(evenly(frames)))
    return ct.track(Path(path), local=["10.0.0.0/8"]).connections


def selected(name: str) -> tuple[str, ...]:
    """The addresses of the pods of a group, by the selectors that are its name."""
    if " in " in name and not name.startswith(("pod In", "pod NotIn")):
        pods, _, spaces = name.partition(" in ")
        spaces = spaces.removeprefix("namespaces ").replace("all namespaces", "")
    else:
        spaces, _, pods = name.partition("/")
        spaces = f"ns={spaces}"
    found = []
    for (ns, pod), address in PODS.items():
        labels = {"ns": ns, "pod": pod}
        wanted = re.findall(r"(\w+)=(\w+)", f"{spaces} {pods}")
        if all(labels.get(key) == value for key, value in wanted):
            found.append(f"{address}/32")
    return tuple(found)


def policy(*specs: str) -> Policy:
    """Policies of the namespace x, with the addresses of the pods in their groups."""
    text = "\n---\n".join(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n"
        f"metadata: {{name: p{n}, namespace: {spec.partition(':')[0]}}}\nspec: {spec.partition(':')[2]}"
        for n, spec in enumerate(specs)
    )
    read = Policy._read(text, "cases.yaml", "kubernetes")
    groups = {name: dataclasses.replace(group, members=selected(name)) for name, group in read.groups.items()}
    return dataclasses.replace(read, groups=groups)


A = "podSelector: {matchLabels: {pod: a}}"
CASES: dict[str, tuple[tuple[str, ...], Table]] = {
    "deny all ingress": (("x:{podSelector: {}, policyTypes: [Ingress]}",), lambda src, dst, port: dst[0] != "x"),
    "deny all egress": (("x:{podSelector: {}, policyTypes: [Egress]}",), lambda src, dst, port: src[0] != "x"),
    "deny both ways": (
        ("x:{podSelector: {}, policyTypes: [Ingress, Egress]}",),
        lambda src, dst, port: "x" not in (src[0], dst[0]),
    ),
    "an empty rule allows all": ((f"x:{{{A}, ingress: [{{}}]}}",), lambda src, dst, port: True),
    "an empty list allows nothing": ((f"x:{{{A}, ingress: []}}",), lambda src, dst, port: dst != ("x", "a")),
    "from pods of the own namespace": (
        (f"x:{{{A}, ingress: [{{from: [{{podSelector: {{matchLabels: {{pod: b}}}}}}]}}]}}",),
        lambda src, dst, port: dst != ("x", "a") or src == ("x", "b"),
    ),
    "from all pods of the own namespace": (
        (f"x:{{{A}, ingress: [{{from: [{{podSelector: {{}}}}]}}]}}",),
        lambda src, dst, port: dst != ("x", "a") or src[0] == "x",
    ),
    "from another namespace": (
        (f"x:{{{A}, ingress: [{{from: [{{namespaceSelector: {{matchLabels: {{ns: y}}}}}}]}}]}}",),
        lambda src, dst, port: dst != ("x", "a") or src[0] == "y",
    ),
    "from all namespaces": (
        (f"x:{{{A}, ingress: [{{from: [{{namespaceSelector: {{}}}}]}}]}}",),
        lambda src, dst, port: True,
    ),
    "from a pod and its namespace": (
        (
            (
                f"x:{{{A}, ingress: [{{from: [{{namespaceSelector: {{matchLabels: {{ns: y}}}}, "
                "podSelector: {matchLabels: {pod: b}}}]}]}"
            ),
        ),
        lambda src, dst, port: dst != ("x", "a") or src == ("y", "b"),
    ),
    "from a pod or a namespace": (
        (
            (
                f"x:{{{A}, ingress: [{{from: [{{namespaceSelector: {{matchLabels: {{ns: y}}}}}}, "
                "{podSelector: {matchLabels: {pod: b}}}]}]}"
            ),
        ),
        lambda src, dst, port: dst != ("x", "a") or src[0] == "y" or src == ("x", "b"),
    ),
    "one port": (
        (f"x:{{{A}, ingress: [{{ports: [{{port: 80}}]}}]}}",),
        lambda src, dst, port: dst != ("x", "a") or port == "80/tcp",
    ),
    "a protocol": (
        (f"x:{{{A}, ingress: [{{ports: [{{protocol: UDP}}]}}]}}",),
        lambda src, dst, port: dst != ("x", "a") or port.endswith("udp"),
    ),
    "a range of ports": (
        (f"x:{{{A}, ingress: [{{ports: [{{protocol: TCP, port: 79, endPort: 80}}]}}]}}",),
        lambda src, dst, port: dst != ("x", "a") or port == "80/tcp",
    ),
    "a port or a peer in two rules": (
        (f"x:{{{A}, ingress: [{{ports: [{{port: 81}}]}}, {{from: [{{podSelector: {{matchLabels: {{pod: c}}}}}}]}}]}}",),
        lambda src, dst, port: dst != ("x", "a") or port == "81/tcp" or src == ("x", "c"),
    ),
    "a port and a peer in one rule": (
        (f"x:{{{A}, ingress: [{{ports: [{{port: 81}}], from: [{{podSelector: {{matchLabels: {{pod: c}}}}}}]}}]}}",),
        lambda src, dst, port: dst != ("x", "a") or (port == "81/tcp" and src == ("x", "c")),
    ),
    "policies of a pod add up": (
        (
            f"x:{{{A}, ingress: [{{ports: [{{port: 80}}]}}]}}",
            f"x:{{{A}, ingress: [{{from: [{{podSelector: {{matchLabels: {{pod: b}}}}}}]}}]}}",
        ),
        lambda src, dst, port: dst != ("x", "a") or port == "80/tcp" or src == ("x", "b"),
    ),
    "allow on top of deny": (
        (
            "x:{podSelector: {}, policyTypes: [Ingress]}",
            f"x:{{{A}, ingress: [{{from: [{{namespaceSelector: {{matchLabels: {{ns: z}}}}}}]}}]}}",
        ),
        lambda src, dst, port: dst[0] != "x" or (dst == ("x", "a") and src[0] == "z"),
    ),
    "a policy for ingress says nothing of egress": (
        ("x:{podSelector: {}, policyTypes: [Ingress]}",),
        lambda src, dst, port: dst[0] != "x",
    ),
    "egress rules are named by their key": (
        (f"x:{{{A}, policyTypes: [Egress], egress: [{{to: [{{podSelector: {{matchLabels: {{pod: b}}}}}}]}}]}}",),
        lambda src, dst, port: src != ("x", "a") or dst == ("x", "b"),
    ),
    "both ends have to allow": (
        (
            f"x:{{{A}, policyTypes: [Egress], egress: [{{to: [{{namespaceSelector: {{matchLabels: {{ns: y}}}}}}]}}]}}",
            "y:{podSelector: {matchLabels: {pod: b}}, ingress: [{ports: [{port: 80}]}]}",
        ),
        lambda src, dst, port: (src != ("x", "a") or dst[0] == "y") and (dst != ("y", "b") or port == "80/tcp"),
    ),
    "a network": (
        (f"x:{{{A}, ingress: [{{from: [{{ipBlock: {{cidr: 10.1.0.0/16}}}}]}}]}}",),
        lambda src, dst, port: dst != ("x", "a") or src[0] == "y",
    ),
    "a network but for a part": (
        (f"x:{{{A}, ingress: [{{from: [{{ipBlock: {{cidr: 10.1.0.0/16, except: [10.1.0.2/32]}}}}]}}]}}",),
        lambda src, dst, port: dst != ("x", "a") or (src[0] == "y" and src != ("y", "b")),
    ),
    "egress to one port of all": (
        (f"x:{{{A}, policyTypes: [Egress], egress: [{{ports: [{{port: 80, protocol: UDP}}]}}]}}",),
        lambda src, dst, port: src != ("x", "a") or port == "80/udp",
    ),
    "deny in a namespace, open in another": (
        ("x:{podSelector: {}, policyTypes: [Ingress]}", "y:{podSelector: {}, ingress: [{}]}"),
        lambda src, dst, port: dst[0] != "x",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_all_pairs(name: str, table: ct.ConnectionTable) -> None:
    specs, expected = CASES[name]
    verdicts = policy(*specs).evaluate(table)["verdict"]
    assert len(table) == 9 * 8 * 4
    wrong = []
    for row, verdict in zip(table, verdicts.tolist(), strict=True):
        src, dst = NAMES[str(row.orig_addr)], NAMES[str(row.resp_addr)]
        service = f"{row.resp_port}/{row.proto}"
        assert service in SERVICES
        if (verdict == ct.Verdict.ALLOWED) != expected(src, dst, service):
            wrong.append((src, dst, service, verdict))
    assert wrong == []
