"""Documents of clouds with anything in the place of anything: they are read, or refused with the place."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import conntrack_py as ct
from conntrack_py.exceptions import PolicyError
from conntrack_py.policy import Policy, formats, rulesets
from conntrack_py.policy.deployed import check_ruleset
from conntrack_py.policy.lint import lint_firewall
from support.packets import SYN, evenly, pcap_bytes, tcp

JUNK: list[Any] = [
    *(None, True, False, 0, -1, 1 << 40, 1.5, "", "x", "[parameters('p')]", "10.0.0.0/8", "\x1b[31m"),
    *([], {}, [None], [1], {"a": 1}, [[]], ["10.0.0.0/8"]),
]
AZURE = {
    "name": "x",
    "priority": 100,
    "direction": "Inbound",
    "access": "Allow",
    "protocol": "Tcp",
    "sourcePortRange": "*",
    "destinationPortRanges": ["443", "8000-8100"],
    "sourceAddressPrefix": "VirtualNetwork",
    "destinationApplicationSecurityGroups": [{"id": "/a/b"}],
}
GROUP = "Microsoft.Network/networkSecurityGroups"
TEMPLATE = {
    "$schema": "x",
    "parameters": {"name": {"defaultValue": "a"}},
    "resources": [
        {
            "type": GROUP,
            "name": "[parameters('name')]",
            "properties": {"securityRules": [{"name": "x", "properties": AZURE}]},
            "resources": [{"type": "securityRules", "name": "y", "properties": AZURE}],
        },
        {
            "type": "Microsoft.Network/virtualNetworks",
            "name": "n",
            "properties": {
                "subnets": [{"properties": {"addressPrefix": "10.0.1.0/24", "networkSecurityGroup": {"id": "/a"}}}]
            },
        },
        {
            "type": "Microsoft.Resources/deployments",
            "properties": {"template": {"resources": [{"type": f"{GROUP}/securityRules", "name": "a/z"} | AZURE]}},
        },
    ],
}
GOOGLE = {
    "name": "web",
    "network": "main",
    "direction": "INGRESS",
    "priority": 1000,
    "allowed": [{"IPProtocol": "tcp", "ports": ["443"]}],
    "sourceRanges": ["10.0.0.0/8"],
    "targetTags": ["web"],
}
AWS = {
    "SecurityGroups": [
        {
            "GroupId": "sg-1",
            "GroupName": "web",
            "IpPermissions": [
                {
                    "IpProtocol": "tcp",
                    "FromPort": 443,
                    "ToPort": 443,
                    "IpRanges": [{"CidrIp": "0.0.0.0/0"}],
                    "UserIdGroupPairs": [{"GroupId": "sg-2"}],
                }
            ],
            "IpPermissionsEgress": [],
        }
    ]
}
ACL = {
    "NetworkAcls": [
        {
            "NetworkAclId": "a",
            "Entries": [
                {
                    "Egress": True,
                    "RuleNumber": 1,
                    "RuleAction": "allow",
                    "Protocol": "1",
                    "CidrBlock": "0.0.0.0/0",
                    "IcmpTypeCode": {"Type": 8, "Code": 0},
                }
            ],
        }
    ]
}


def resource(kind: str, **values: object) -> dict[str, Any]:
    return {"address": f"{kind}.a", "mode": "managed", "type": kind, "name": "a", "values": values}


STATE = {
    "format_version": "1.0",
    "terraform_version": "1",
    "planned_values": {
        "root_module": {
            "resources": [
                resource(
                    "aws_security_group",
                    id="sg-1",
                    ingress=[
                        {"protocol": "tcp", "from_port": 1, "to_port": 2, "cidr_blocks": ["10.0.0.0/8"], "self": True}
                    ],
                ),
                resource("aws_security_group_rule", type="egress", protocol="tcp", from_port=1, to_port=2),
                resource("aws_instance", private_ip="10.0.1.10", vpc_security_group_ids=["sg-1"]),
                resource(
                    "azurerm_network_security_group",
                    id="/n",
                    name="n",
                    security_rule=[
                        {
                            "name": "h",
                            "direction": "Inbound",
                            "access": "Allow",
                            "priority": 100,
                            "protocol": "Tcp",
                            "destination_port_range": "443",
                            "source_address_prefix": "*",
                        }
                    ],
                ),
                resource(
                    "azurerm_network_interface", id="/nic", ip_configuration=[{"private_ip_address": "10.0.1.10"}]
                ),
                resource(
                    "azurerm_network_interface_security_group_association",
                    network_interface_id="/nic",
                    network_security_group_id="/n",
                ),
                resource(
                    "google_compute_firewall",
                    name="g",
                    network="n",
                    allow=[{"protocol": "tcp", "ports": ["443"]}],
                    target_tags=["web"],
                ),
                resource(
                    "google_compute_instance",
                    tags=["web"],
                    network_interface=[{"network_ip": "10.0.1.10"}],
                    service_account=[{"email": "x"}],
                ),
                resource("aws_subnet", id="s1", cidr_block="10.0.1.0/24"),
                resource(
                    "aws_network_acl",
                    id="a1",
                    subnet_ids=["s1"],
                    ingress=[
                        {
                            "rule_no": 100,
                            "action": "allow",
                            "protocol": "icmp",
                            "cidr_block": "0.0.0.0/0",
                            "icmp_type": 8,
                            "icmp_code": 0,
                        }
                    ],
                ),
            ]
        }
    },
    "resource_changes": [
        {
            "address": "aws_security_group_rule.a",
            "change": {"after_unknown": {"security_group_id": True, "cidr_blocks": [True]}},
        }
    ],
    "configuration": {
        "root_module": {
            "resources": [
                {
                    "address": "aws_security_group_rule.a",
                    "expressions": {"security_group_id": {"references": ["aws_security_group.a.id"]}},
                }
            ]
        }
    },
}
DOCUMENTS = {
    "azure": [AZURE],
    "template": TEMPLATE,
    "gcp": [GOOGLE],
    "security-groups": AWS,
    "nacl": ACL,
    "terraform": STATE,
}


def paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from paths(inner, (*path, key))


def changed(document: Any, chance: random.Random) -> Any:
    """A document with another value, or none, in up to four places."""
    document = copy.deepcopy(document)
    for _ in range(chance.choice((1, 1, 2, 4))):
        path = chance.choice(list(paths(document)) or [()])
        holder = document
        for step in path[:-1]:
            holder = holder[step]
        if path and chance.random() < 0.2 and isinstance(holder, dict):
            del holder[path[-1]]
        elif path:
            holder[path[-1]] = copy.deepcopy(chance.choice(JUNK))
    return document


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> ct.ConnectionTable:
    path = tmp_path_factory.mktemp("hostile") / "x.pcap"
    path.write_bytes(pcap_bytes(evenly([tcp("10.0.5.7", 40_000, "10.0.1.10", 443, SYN, 1)])))
    return ct.track(path).connections


@pytest.mark.parametrize("name", DOCUMENTS)
def test_anything_in_the_place_of_anything(name: str, table: ct.ConnectionTable) -> None:
    format = "azure" if name == "template" else name
    chance = random.Random(name)
    taken = 0
    for _ in range(150):
        text = json.dumps(changed(DOCUMENTS[name], chance), indent=1)
        formats.guess(text, "x.json")
        try:
            firewall = rulesets.read(text, format, "x.json")
            check_ruleset(firewall, table, hosts=chance.choice(((), ("10.0.1.10",))))
            problems = lint_firewall(firewall)
            taken += 1
            assert all("\x1b" not in f"{one.message}{one.place}{one.rule}" for one in problems)
            policy = Policy.of_ruleset(firewall)
            assert all("\x1b" not in word for word in policy.warnings)
        except PolicyError as error:
            assert "x.json" in str(error)  # noqa: PT017
            assert "\x1b" not in str(error)  # noqa: PT017
    assert taken > 10


@pytest.mark.parametrize("format", ["azure", "gcp", "security-groups", "nacl", "terraform"])
@pytest.mark.parametrize(
    "text", ["[" * 100_000, "{", '{"a": 1, "a": 2}', "null", "1", '"x"', "[1]", f"[{'9' * 30}]", ""]
)
def test_texts_that_are_none(format: str, text: str, tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match=r"x\.json"):
        rulesets.read(text, format, "x.json")
