"""Rulesets of Azure, Google Cloud and AWS as their tools list them: verdicts, members, conversion, lint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import conntrack_py as ct
from conntrack_py.cli import cli
from conntrack_py.exceptions import PolicyError
from conntrack_py.policy import Policy, formats, rulesets
from conntrack_py.policy.deployed import DeployedResult, check_ruleset
from conntrack_py.policy.lint import lint_firewall
from support.one_host import CLIENT, FRAMES, HOST
from support.packets import download, evenly, pcap_bytes


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clouds") / "x.pcap"
    path.write_bytes(pcap_bytes(evenly([*FRAMES, *download(HOST, 40_006, "169.254.169.254", 80, 1000)])))
    return path


def judged(capture: Path, document: object, format: str, **more: Any) -> tuple[DeployedResult, dict[str, str]]:
    """The result, and the verdict by the port of the responder."""
    text = json.dumps(document, indent=1)
    assert formats.guess(text, "x.json") == ("aws" if format == "security-groups" else format)
    table = ct.track(capture, local=["10.0.0.0/8"]).connections
    result = check_ruleset(rulesets.read(text, format, "x.json"), table, **more)
    rows = zip(table, result.verdicts, strict=True)
    return result, {str(row.resp_port) if row.proto != "icmp" else "ping": verdict for row, verdict in rows}


def azure_rule(name: str, order: int, /, **more: object) -> dict[str, Any]:
    return {
        "name": name,
        "priority": order,
        "direction": "Inbound",
        "access": "Allow",
        "protocol": "Tcp",
        "sourcePortRange": "*",
        "destinationPortRange": "443",
        "sourceAddressPrefix": "*",
        "destinationAddressPrefix": "*",
        **more,
    }


NSG = {"name": "web-nsg", "id": "/subscriptions/s/web-nsg", "securityRules": [azure_rule("https", 100)]}
NETWORK = {"VirtualNetwork": ["10.0.1.0/24"]}


@pytest.mark.parametrize("shape", ["show", "list", "rules", "api", "template"])
def test_shapes_of_azure(shape: str, capture: Path) -> None:
    rule = azure_rule("https", 100)
    inner = {"name": rule.pop("name"), "properties": rule}
    document: dict[str, Any] = {
        "show": NSG,
        "list": [NSG],
        "rules": NSG["securityRules"],
        "api": {"value": [{"name": "web-nsg", "properties": {"securityRules": [inner]}}]},
        "template": {
            "$schema": "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#",
            "parameters": {"name": {"type": "string", "defaultValue": "web-nsg"}},
            "resources": [
                {
                    "type": "Microsoft.Network/networkSecurityGroups",
                    "name": "[parameters('name')]",
                    "resources": [{"type": "securityRules", **inner}],
                },
            ],
        },
    }
    given = document[shape]
    text = json.dumps(given)
    if shape != "api":
        assert formats.guess(text, "x.json") == "azure"
    table = ct.track(capture, local=["10.0.0.0/8"]).connections
    result = check_ruleset(rulesets.from_azure_json(text), table, hosts=[HOST], members=NETWORK)
    words = ["allowed", "refused", "allowed", "refused", "refused", "refused", "allowed"]
    assert result.verdicts == words
    assert sum(use.connections for use in result.rules if "https" in use.rule) == 1


def test_subnets_of_a_template_are_members(capture: Path) -> None:
    group = {
        "type": "Microsoft.Network/networkSecurityGroups",
        "name": "web",
        "properties": {"securityRules": [{"name": "https", "properties": azure_rule("https", 100)}]},
    }
    network = {
        "type": "Microsoft.Network/virtualNetworks",
        "name": "net",
        "properties": {
            "subnets": [
                {
                    "name": "a",
                    "properties": {
                        "addressPrefix": "10.0.1.0/24",
                        "networkSecurityGroup": {
                            "id": "[resourceId('Microsoft.Network/networkSecurityGroups', 'web')]"
                        },
                    },
                }
            ]
        },
    }
    document = {"$schema": "x", "resources": [group, network]}
    _, words = judged(capture, document, "azure", members=NETWORK)
    assert (words["443"], words["22"], words["8443"]) == ("allowed", "refused", "allowed")


def test_what_a_template_does_not_tell_is_unknown(capture: Path) -> None:
    def of(**more: object) -> str:
        rules = [azure_rule("first", 200, destinationPortRange="22", access="Deny"), azure_rule("x", 100, **more)]
        document = {"name": "web-nsg", "securityRules": rules}
        result, words = judged(capture, document, "azure", hosts=[HOST], members=NETWORK)
        assert [note.line for note in result.notes] == [15], "the second rule"
        return words["443"]

    assert of(sourceAddressPrefix="[variables('lan')]", priority="[parameters('p')]") == "unknown"
    assert of(access="[parameters('access')]") == "unknown"
    assert of(protocol="[parameters('p')]") == "unknown"
    assert of(destinationPortRange="[parameters('p')]") == "unknown"
    assert of(priority="[parameters('p')]", destinationPortRange="443") == "unknown"


def test_service_tags_are_unknown_unless_told(capture: Path) -> None:
    rule = azure_rule(
        "sql",
        100,
        direction="Outbound",
        access="Deny",
        destinationAddressPrefix="Sql.WestEurope",
        protocol="*",
        destinationPortRange="*",
    )
    document = {"name": "web-nsg", "securityRules": [rule]}
    assert judged(capture, document, "azure", hosts=[HOST])[1]["8443"] == "unknown"
    given = {"Sql.WestEurope": ["203.0.113.0/24"]}
    assert judged(capture, document, "azure", hosts=[HOST], members=given)[1]["8443"] == "refused"
    given = {"Sql.WestEurope": ["192.0.2.0/24"]}
    assert judged(capture, document, "azure", hosts=[HOST], members=given)[1]["8443"] == "allowed"
    assert judged(capture, document, "azure", hosts=[HOST], members=given)[1]["80"] == "allowed", "the platform's own"
    internet = azure_rule("net", 100, sourceAddressPrefix="Internet", destinationPortRange="3306")
    found = judged(capture, {"name": "n", "securityRules": [internet]}, "azure", hosts=[HOST], members=NETWORK)[1]
    assert found["3306"] == "allowed"


GCP = [
    {
        "name": "web",
        "network": "https://www.googleapis.com/compute/v1/projects/p/global/networks/main",
        "direction": "INGRESS",
        "priority": 1000,
        "allowed": [{"IPProtocol": "tcp", "ports": ["443", "8000-8100"]}, {"IPProtocol": "icmp"}],
        "sourceRanges": ["10.0.0.0/8"],
        "targetTags": ["web"],
    },
    {
        "name": "no-way-out",
        "network": "main",
        "direction": "EGRESS",
        "priority": 1000,
        "denied": [{"IPProtocol": "all"}],
        "destinationRanges": ["0.0.0.0/0"],
        "targetServiceAccounts": ["web@p.iam.gserviceaccount.com"],
    },
    {
        "name": "old",
        "network": "main",
        "direction": "INGRESS",
        "priority": 10,
        "disabled": True,
        "allowed": [{"IPProtocol": "all"}],
    },
]


def test_targets_of_google_are_unknown_unless_told(capture: Path) -> None:
    result, words = judged(capture, GCP, "gcp", hosts=[HOST])
    assert words == {
        "443": "unknown",
        "22": "refused",
        "8443": "unknown",
        "3306": "refused",
        "53": "unknown",
        "ping": "unknown",
        "80": "allowed",  # the metadata server
    }
    assert [note.message for note in result.notes] == ["The rule old is disabled: it is not asked."]
    assert {one.why.partition(":")[0] for one in result.unknowns} == {"web", "no-way-out"}
    members = {"web": [HOST], "web@p.iam.gserviceaccount.com": [HOST]}
    _, words = judged(capture, GCP, "gcp", hosts=[HOST], members=members)
    assert [words[key] for key in ("443", "22", "8443", "53", "ping")] == [
        "allowed",
        "refused",
        "refused",
        "refused",
        "allowed",
    ]
    members = {"web": ["10.0.9.9"], "web@p.iam.gserviceaccount.com": ["10.0.9.9"]}
    _, words = judged(capture, GCP, "gcp", hosts=[HOST], members=members)
    assert (words["443"], words["8443"]) == ("refused", "allowed")


def test_local_networks_are_the_members_of_one_group(capture: Path) -> None:
    """A connection between two local addresses may have its member at either end."""
    _, words = judged(capture, [GCP[0] | {"targetTags": []}, GCP[2]], "gcp")
    assert words["3306"] == "refused"
    assert words["8443"] == "allowed"
    assert (words["443"], words["22"]) == ("allowed", "unknown")
    other = GCP[0] | {"network": "other", "targetTags": []}
    assert judged(capture, [*GCP, other], "gcp")[1]["3306"] == "unknown", "of two networks, nobody knows which"


GROUPS = {
    "SecurityGroups": [
        {
            "GroupId": "sg-1",
            "GroupName": "web",
            "IpPermissions": [
                {"IpProtocol": "tcp", "FromPort": 443, "ToPort": 443, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]},
                {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "UserIdGroupPairs": [{"GroupId": "sg-2"}]},
                {"IpProtocol": "icmp", "FromPort": 8, "ToPort": -1, "PrefixListIds": [{"PrefixListId": "pl-1"}]},
            ],
            "IpPermissionsEgress": [],
        },
        {
            "GroupId": "sg-2",
            "GroupName": "admin",
            "IpPermissions": [],
            "IpPermissionsEgress": [{"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}],
        },
    ]
}


def test_security_groups_of_aws(capture: Path) -> None:
    members = {"web": [HOST], "sg-2": [CLIENT]}
    result, words = judged(capture, GROUPS, "security-groups", members=members)
    assert words == {
        "443": "allowed",
        "22": "allowed",
        "8443": "refused",
        "3306": "refused",
        "53": "unknown",  # perhaps the server of the VPC, which no group filters
        "ping": "unknown",
        "80": "allowed",
    }
    assert [use.rule for use in result.unused] == []
    given = members | {"pl-1": ["10.0.5.0/24"]}
    assert judged(capture, GROUPS, "security-groups", members=given)[1]["ping"] == "allowed"
    given = members | {"pl-1": ["192.0.2.0/24"]}
    assert judged(capture, GROUPS, "security-groups", members=given)[1]["ping"] == "refused"
    assert judged(capture, GROUPS, "security-groups", members={"web": [HOST]})[1]["8443"] == "unknown", "also in sg-2?"


def test_convert_to_a_policy(capture: Path) -> None:
    text = json.dumps(GROUPS)
    policy = Policy.of_ruleset(rulesets.from_groups_json(text), members={"web": [HOST], "sg-2": [CLIENT]})
    assert policy.to_dict()["combine"] == "any"
    assert policy.to_dict()["groups"]["sg-1"] == {
        "members": [f"{HOST}/32"],
        "default": {"ingress": "deny", "egress": "deny"},
        "ingress": [
            {"from": "0.0.0.0/0", "proto": "tcp", "ports": [443]},
            {"from": "sg-2", "proto": "tcp", "ports": [22]},
        ],
        "egress": [],
    }
    assert [word for word in policy.warnings if "pl-1 are not told (--members)" in word]
    table = ct.track(capture, local=["10.0.0.0/8"]).connections
    assert policy.check(table).refused == 5, "what a prefix list allows, and what AWS never filters, is not in it"

    policy = Policy.of_ruleset(rulesets.from_gcloud_json(json.dumps(GCP)), [HOST], {"web": [HOST]})
    assert policy.groups["main"].members == (), "what has a tag is in the group of the tag"
    assert [rule.proto for rule in policy.groups["web"].ingress] == ["tcp", "icmp"]
    assert policy.groups["web"].egress_default == "allow"

    nsg = {
        "name": "n",
        "securityRules": [
            *NSG["securityRules"],
            azure_rule("no", 90, access="Deny", destinationPortRange="440-450", sourceAddressPrefix="10.9.0.0/16"),
        ],
    }
    policy = Policy.of_ruleset(rulesets.from_azure_json(json.dumps(nsg)), [HOST])
    assert (
        policy.groups["n"].ingress
        == Policy.of_ruleset(rulesets.from_azure_json(json.dumps(nsg | {"securityRules": []})), [HOST])
        .groups["n"]
        .ingress
    )
    assert any("an earlier rule denies, and may take of it" in word for word in policy.warnings)
    assert any("a policy has no rules that deny" in word for word in policy.warnings)
    assert any("the addresses of VirtualNetwork are not told (--members)" in word for word in policy.warnings)


@pytest.mark.parametrize("format", ["azure", "gcp"])
def test_what_is_written_is_read(format: str, capture: Path) -> None:
    """A policy and the cloud's rules that it is written as refuse the same connections."""
    document = {
        "groups": {
            "web": {
                "members": [f"{HOST}/32"],
                "ingress": [{"from": "10.0.0.0/8", "proto": "tcp", "ports": [443]}],
                "egress": [{"to": "10.0.0.53/32", "proto": "udp", "ports": [53]}],
            }
        }
    }
    policy = Policy.from_dict(document)
    table = ct.track(capture, local=["10.0.0.0/8"]).connections[:6]
    expected = [
        "refused" if -2 in (one["egress_rule"], one["ingress_rule"]) else "allowed" for one in policy.evaluate(table)
    ]
    assert {"refused", "allowed"} == set(expected)
    firewall = rulesets.read(policy.convert(format).text, format)
    names = ["web"] if format == "azure" else ["default", "web"]
    members = {name: [f"{HOST}/32"] for name in names}
    assert check_ruleset(firewall, table, members=members).verdicts == expected


def test_lint_of_cloud_rules() -> None:
    nsg = {
        "name": "n",
        "securityRules": [
            azure_rule("all", 100, destinationPortRange="*", protocol="*"),
            azure_rule("ssh", 110, destinationPortRange="22"),
            azure_rule("replies", 120, destinationPortRange="1024-65535", sourceAddressPrefix="10.0.0.0/8"),
        ],
    }
    found = lint_firewall(rulesets.from_azure_json(json.dumps(nsg, indent=1), "nsg.json"))
    assert {"D15", "D16"} <= {one.check for one in found}
    world = {
        "name": "n",
        "securityRules": [azure_rule("ssh", 110, destinationPortRange="22", sourceAddressPrefix="Internet")],
    }
    found = lint_firewall(rulesets.from_azure_json(json.dumps(world)))
    assert {one.check for one in found} == {"D18", "D8"}
    found = lint_firewall(rulesets.from_gcloud_json(json.dumps(GCP)))
    assert [(one.check, one.severity) for one in found] == [("D8", "warning"), ("D19", "note")]
    assert not any("established" in one.fix for one in found), "these clouds know connections"


@pytest.mark.parametrize(
    ("format", "document", "expected"),
    [
        ("azure", {}, r"x\.json:1: the document: found no securityRules, expected a network security group"),
        ("azure", [], "found no network security group, expected what `az network nsg list` prints"),
        (
            "azure",
            {"securityRules": [azure_rule("a", 0, priority="x")]},
            r"priority: found 'x', expected a priority from",
        ),
        (
            "azure",
            {"securityRules": [azure_rule("a", 1, destinationPortRange="9-1")]},
            "found port '9-1', expected a port",
        ),
        ("azure", {"securityRules": [azure_rule("a", 1, access="Perhaps")]}, "found 'Perhaps', expected Allow or Deny"),
        ("azure", {"securityRules": [azure_rule("a", 1, protocol="gre")]}, "found 'gre', expected one of Tcp, Udp"),
        ("azure", {"securityRules": "all"}, "found 'all', expected a list of rules"),
        ("gcp", {}, "found a table, expected a list of firewall rules, as `gcloud"),
        ("gcp", [{"name": "a", "direction": "UP", "allowed": [{}]}], "found 'UP', expected INGRESS or EGRESS"),
        ("gcp", [{"name": "a"}], "found neither of allowed and denied, expected one"),
        (
            "gcp",
            [GCP[0] | {"priority": 70000}],
            r"x\.json:\d+: \[0\]\.priority: found 70000, expected a priority from 0",
        ),
        ("gcp", [GCP[0] | {"sourceRanges": ["lan"]}], "found 'lan', expected a network such as"),
        ("gcp", [GCP[0] | {"allowed": [{"IPProtocol": "tcp", "ports": ["99999"]}]}], "found '99999', expected a port"),
        ("security-groups", {"SecurityGroups": {}}, "found a table, expected a list SecurityGroups"),
        ("security-groups", {"SecurityGroups": [{}]}, "found nothing, expected the id of a security group"),
    ],
)
def test_refused_documents(format: str, document: object, expected: str) -> None:
    with pytest.raises(PolicyError, match=expected):
        rulesets.read(json.dumps(document, indent=1), format, "x.json")


def test_unknown_members_are_refused(capture: Path) -> None:
    with pytest.raises(
        PolicyError, match=r"x\.json: found members of 'db', expected a name of the file: web-nsg, Virt"
    ):
        judged(capture, NSG, "azure", members={"db": ["10.0.0.0/8"]})
    with pytest.raises(PolicyError, match="web-nsg: found 'lan', expected an address or a network"):
        judged(capture, NSG, "azure", members={"web-nsg": ["lan"]})
    with pytest.raises(PolicyError, match="found azure with interfaces, expected members of its names"):
        judged(capture, NSG, "azure", interfaces={"eth0": ["10.0.0.0/8"]})


def test_the_command_line(capture: Path, tmp_path: Path) -> None:
    path = tmp_path / "nsg.json"
    path.write_text(json.dumps(NSG, indent=1))
    run = CliRunner()
    options = ["--members", "web-nsg=10.0.1.0/24", "--members", "VirtualNetwork=10.0.1.0/24"]
    local = ["--local", "10.0.0.0/8"]
    done = run.invoke(cli, ["policy", "check", *options, *local, str(path), str(capture)])
    assert (done.exit_code, "7 connections: 3 allowed, 4 refused" in done.stdout) == (1, True)
    done = run.invoke(cli, ["policy", "check", "--json", *options, *local, "-", str(capture)], input=path.read_bytes())
    assert json.loads(done.stdout)["connections"]["allowed"] == 3, "from standard input"
    done = run.invoke(cli, ["policy", "check", "--sarif", *options, *local, str(path), str(capture)])
    report = json.loads(done.stdout)["runs"][0]
    assert {result["ruleId"] for result in report["results"]} == {"refused-by-ruleset"}
    assert all(result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for result in report["results"])
    done = run.invoke(cli, ["policy", "convert", "--to", "toml", *options, str(path)])
    assert (done.exit_code, "[groups.web-nsg]" in done.stdout) == (0, True)
    done = run.invoke(cli, ["policy", "lint", "--sarif", str(path)])
    assert json.loads(done.stdout)["runs"][0]["results"][0]["ruleId"] == "D8"
    done = run.invoke(cli, ["policy", "check", "--members", "web", str(path), str(capture)])
    assert (done.exit_code, "--members: found 'web', expected NAME=NETWORK" in done.stderr) == (2, True)

    path.write_text(json.dumps(GROUPS))
    done = run.invoke(cli, ["policy", "check", "--json", "--host", HOST, *local, str(path), str(capture)])
    assert json.loads(done.stdout)["connections"]["refused"] == 2, "with members the groups are a ruleset"
