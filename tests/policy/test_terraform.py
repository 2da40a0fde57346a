"""Rules of clouds in what `terraform show -json` prints of states and plans."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import conntrack_py as ct
from conntrack_py.exceptions import PolicyError
from conntrack_py.policy import Policy, formats, rulesets
from conntrack_py.policy.deployed import DeployedResult, check_ruleset
from support.packets import SYN, download, evenly, pcap_bytes, tcp

WEB, DB, CLIENT, AWAY = "10.0.1.10", "10.0.2.20", "10.0.5.7", "203.0.113.9"
FRAMES = [
    *download(CLIENT, 40_000, WEB, 443, 1000),
    *download(CLIENT, 40_001, WEB, 22, 1000),
    *download(WEB, 40_002, DB, 5432, 1000),
    *download(CLIENT, 40_003, DB, 5432, 1000),
    *download(WEB, 40_004, AWAY, 8443, 1000),
    tcp(AWAY, 40_005, WEB, 3306, SYN, 1),
]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> ct.ConnectionTable:
    path = tmp_path_factory.mktemp("terraform") / "x.pcap"
    path.write_bytes(pcap_bytes(evenly(FRAMES)))
    return ct.track(path, local=["10.0.0.0/8"]).connections


def resource(kind: str, name: str, /, **values: object) -> dict[str, Any]:
    return {
        "address": f"{kind}.{name}",
        "mode": "managed",
        "type": kind,
        "name": name,
        "provider_name": "x",
        "schema_version": 1,
        "values": values,
    }


def state(*resources: dict[str, Any]) -> str:
    root = {"resources": list(resources)}
    return json.dumps(
        {"format_version": "1.0", "terraform_version": "1.11.4", "values": {"root_module": root}}, indent=1
    )


def plan(*resources: dict[str, Any], unknown: dict[str, Any], expressions: dict[str, Any]) -> str:
    """A plan, with what is known after it, and what attributes refer to, by the address of the resource."""
    changes = [{"address": address, "change": {"after_unknown": what}} for address, what in unknown.items()]
    configured = [
        {"address": one["address"], "type": one["type"], "name": one["name"], "expressions": of}
        for one in resources
        if (of := expressions.get(one["address"])) is not None
    ]
    document = {
        "format_version": "1.2",
        "terraform_version": "1.11.4",
        "planned_values": {"root_module": {"resources": list(resources)}},
        "resource_changes": changes,
        "configuration": {"root_module": {"resources": configured}},
    }
    return json.dumps(document, indent=1)


def refers(*words: str) -> dict[str, Any]:
    return {"references": list(words)}


def words(text: str, table: ct.ConnectionTable, **more: Any) -> tuple[DeployedResult, list[str]]:
    assert formats.guess(text, "x.json") == "terraform"
    result = check_ruleset(rulesets.from_terraform_json(text, "x.json"), table, **more)
    return result, result.verdicts


GROUPS = (
    resource(
        "aws_security_group",
        "web",
        id="sg-1",
        name="web",
        ingress=[
            {
                "protocol": "tcp",
                "from_port": 443,
                "to_port": 443,
                "cidr_blocks": ["10.0.0.0/8"],
                "ipv6_cidr_blocks": [],
                "security_groups": [],
                "prefix_list_ids": [],
                "self": False,
                "description": "",
            }
        ],
        egress=[],
    ),
    resource("aws_security_group", "db", id="sg-2", name="db", ingress=[], egress=[]),
    resource(
        "aws_security_group_rule",
        "to_db",
        type="egress",
        security_group_id="sg-1",
        source_security_group_id="sg-2",
        protocol="tcp",
        from_port=5432,
        to_port=5432,
    ),
    resource(
        "aws_vpc_security_group_ingress_rule",
        "from_web",
        security_group_id="sg-2",
        referenced_security_group_id="sg-1",
        ip_protocol="tcp",
        from_port=5432,
        to_port=5432,
    ),
    resource("aws_instance", "web", private_ip=WEB, vpc_security_group_ids=["sg-1"]),
    resource("aws_network_interface", "db", private_ips=[DB], security_groups=["sg-2"]),
)


def test_security_groups_of_a_state(table: ct.ConnectionTable) -> None:
    result, found = words(state(*GROUPS), table)
    assert found == ["allowed", "refused", "allowed", "refused", "refused", "refused"]
    assert {one.by.partition(":")[0] for one in result.refusals} == {"no rule of ingress", "no rule of egress"}
    used = {use.rule.partition(":")[0]: use.connections for use in result.rules if use.line}
    assert used == {
        "aws_security_group.web ingress[0]": 1,
        "aws_security_group.web aws_security_group_rule.to_db": 1,
        "aws_security_group.db aws_vpc_security_group_ingress_rule.from_web": 1,
    }


def test_groups_without_members(table: ct.ConnectionTable) -> None:
    text = state(*GROUPS[:-2])
    assert "allowed" not in words(text, table)[1][1:]
    given = {"aws_security_group.web": [WEB], "sg-2": [DB]}
    assert words(text, table, members=given)[1] == words(state(*GROUPS), table)[1]
    with pytest.raises(PolicyError, match=r"x\.json: found members of 'sg-9', expected a name of the file: aws_sec"):
        words(text, table, members={"sg-9": [DB]})


def test_references_of_a_plan(table: ct.ConnectionTable) -> None:
    groups = [
        resource("aws_security_group", "web", name="web", ingress=[], egress=[]),
        resource("aws_security_group", "db", name="db", ingress=[], egress=[]),
    ]
    rules = [
        resource("aws_security_group_rule", "to_db", type="egress", protocol="tcp", from_port=5432, to_port=5432),
        resource("aws_vpc_security_group_ingress_rule", "from_web", ip_protocol="tcp", from_port=5432, to_port=5432),
    ]
    expressions = {
        "aws_security_group_rule.to_db": {
            "security_group_id": refers("aws_security_group.web.id", "aws_security_group.web"),
            "source_security_group_id": refers("aws_security_group.db.id", "aws_security_group.db"),
        },
        "aws_vpc_security_group_ingress_rule.from_web": {
            "security_group_id": refers("aws_security_group.db.id", "aws_security_group.db"),
            "referenced_security_group_id": refers("aws_security_group.web.id", "aws_security_group.web"),
        },
    }
    unknown = {address: dict.fromkeys(of, True) for address, of in expressions.items()}
    members = {"aws_security_group.web": [WEB], "aws_security_group.db": [DB]}
    text = plan(*groups, *rules, unknown=unknown, expressions=expressions)
    assert words(text, table, members=members)[1] == ["refused", "refused", "allowed", "refused", "refused", "refused"]

    expressions["aws_vpc_security_group_ingress_rule.from_web"]["referenced_security_group_id"] = refers("var.peer")
    result, found = words(plan(*groups, *rules, unknown=unknown, expressions=expressions), table, members=members)
    assert (found[2], found[3]) == ("unknown", "unknown"), "nobody knows from whom"
    assert [note.message for note in result.notes] == [
        f"{rules[1]['address']} depends on what the file does not tell: referenced_security_group_id known after apply."
    ]


def test_references_through_modules(table: ct.ConnectionTable) -> None:
    group = resource("aws_security_group", "web", name="web", ingress=[], egress=[])
    group["address"] = "module.net.aws_security_group.web"
    rule = resource(
        "aws_vpc_security_group_ingress_rule",
        "https",
        ip_protocol="tcp",
        from_port=443,
        to_port=443,
        cidr_ipv4="0.0.0.0/0",
    )
    rule["address"] = "module.app.aws_vpc_security_group_ingress_rule.https[0]"
    inner = [{"address": "module.net", "resources": [group]}, {"address": "module.app", "resources": [rule]}]
    calls = {
        "net": {"module": {"outputs": {"id": {"expression": refers("aws_security_group.web.id")}}}},
        "app": {
            "expressions": {"group": refers("module.net.id", "module.net")},
            "module": {
                "resources": [
                    {
                        "address": "aws_vpc_security_group_ingress_rule.https",
                        "expressions": {"security_group_id": refers("var.group"), "cidr_ipv4": {"constant_value": "0"}},
                    }
                ]
            },
        },
    }
    document = {
        "format_version": "1.2",
        "planned_values": {"root_module": {"child_modules": inner}},
        "resource_changes": [{"address": rule["address"], "change": {"after_unknown": {"security_group_id": True}}}],
        "configuration": {"root_module": {"module_calls": calls}},
    }
    text = json.dumps(document, indent=1)
    result, found = words(text, table, hosts=[WEB])
    assert (found[0], found[1], result.notes) == ("allowed", "refused", ())


def test_rules_of_a_group_that_is_elsewhere(table: ct.ConnectionTable) -> None:
    rule = GROUPS[3] | {
        "values": GROUPS[3]["values"] | {"referenced_security_group_id": None, "cidr_ipv4": f"{CLIENT}/32"}
    }
    result, found = words(state(rule), table, hosts=[DB])
    assert (found[2], found[3]) == ("unknown", "allowed"), "its other rules are not in the file"
    assert "other rules of sg-2" in result.notes[0].message


def test_azure(table: ct.ConnectionTable) -> None:
    rule = {
        "direction": "Inbound",
        "access": "Allow",
        "priority": 100,
        "protocol": "Tcp",
        "source_port_range": "*",
        "source_address_prefix": "*",
        "destination_address_prefix": "*",
    }
    resources = (
        resource(
            "azurerm_network_security_group",
            "web",
            id="/nsg/web",
            name="web-nsg",
            security_rule=[rule | {"name": "https", "destination_port_range": "443"}],
        ),
        resource(
            "azurerm_network_security_rule",
            "no_ssh",
            **rule
            | {
                "name": "no-ssh",
                "network_security_group_name": "web-nsg",
                "priority": 90,
                "access": "Deny",
                "destination_port_ranges": ["22", "3389"],
            },
        ),
        resource("azurerm_subnet", "web", id="/subnet/web", address_prefixes=["10.0.1.0/24"]),
        resource(
            "azurerm_subnet_network_security_group_association",
            "web",
            subnet_id="/subnet/web",
            network_security_group_id="/nsg/web",
        ),
    )
    result, found = words(state(*resources), table, members={"VirtualNetwork": ["10.0.0.0/16"]})
    assert found == ["allowed", "refused", "allowed", "allowed", "allowed", "refused"]
    by = {one.by.partition(":")[0]: one.line for one in result.refusals}
    assert by["DenyAllInBound"] is None
    assert by["no-ssh"]


def test_google(table: ct.ConnectionTable) -> None:
    resources = (
        resource(
            "google_compute_firewall",
            "web",
            name="web",
            network="https://www.googleapis.com/compute/v1/projects/p/global/networks/main",
            direction="INGRESS",
            priority=1000,
            allow=[{"protocol": "tcp", "ports": ["443"]}],
            deny=[],
            source_ranges=["10.0.0.0/8"],
            target_tags=["web"],
        ),
        resource(
            "google_compute_subnetwork", "main", network="projects/p/global/networks/main", ip_cidr_range="10.0.0.0/16"
        ),
        resource("google_compute_instance", "web", tags=["web"], network_interface=[{"network_ip": WEB}]),
    )
    _, found = words(state(*resources), table)
    assert found == ["allowed", "refused", "refused", "refused", "allowed", "refused"]


def test_network_acls(table: ct.ConnectionTable) -> None:
    def entry(number: int, action: str, first: int, last: int) -> dict[str, Any]:
        return {
            "rule_no": number,
            "action": action,
            "protocol": "tcp" if number < 900 else "-1",
            "from_port": first,
            "to_port": last,
            "cidr_block": "0.0.0.0/0",
            "ipv6_cidr_block": "",
            "icmp_type": 0,
            "icmp_code": 0,
        }

    resources = (
        resource("aws_subnet", "web", id="subnet-1", cidr_block="10.0.1.0/24"),
        resource(
            "aws_network_acl",
            "web",
            id="acl-1",
            subnet_ids=["subnet-1"],
            ingress=[entry(100, "allow", 443, 443), entry(110, "allow", 8443, 8443)],
            egress=[entry(100, "allow", 1024, 65535)],
        ),
        resource(
            "aws_network_acl_rule",
            "replies",
            network_acl_id="acl-1",
            egress=False,
            rule_number=50,
            rule_action="deny",
            protocol="tcp",
            from_port=5432,
            to_port=5432,
            cidr_block="0.0.0.0/0",
        ),
    )
    result, found = words(state(*resources), table)
    assert found == ["allowed", "refused", "refused", "allowed", "refused", "refused"]
    replies = {one.service: one.reply for one in result.refusals}
    assert replies["8443/tcp"], "no entry lets answers in: an ACL knows no connections"
    with pytest.raises(
        PolicyError, match=r"x\.json: found network ACLs, which have rules for replies, expected security"
    ):
        Policy.of_ruleset(rulesets.from_terraform_json(state(*resources), "x.json"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            'resource "azurerm_network_security_group" "a" {}',
            r"found Terraform's own language \(HCL\), expected resources",
        ),
        ('{"resource": {"aws_security_group": {"a": {}}}}', "found a configuration in JSON, expected"),
        (
            '{"version": 4, "terraform_version": "1.11.4", "lineage": "x", "resources": []}',
            "found a state file, expected",
        ),
        (
            '{"format_version": "1.0", "terraform_version": "1", "values": {"root_module": {}}}',
            "found no resource with rules",
        ),
        ('{"format_version": "1.0", "terraform_version": "1"}', "found no resource with rules"),
        (state(resource("aws_network_acl", "a", ingress=[{"rule_no": "x"}])), r"found nothing, expected allow or deny"),
    ],
)
def test_refused_texts(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "main.tf.json"
    path.write_text(text)
    assert formats.guess(text, path.name) == "terraform"
    with pytest.raises(PolicyError, match=expected) as caught:
        ct.policy.read_ruleset(path)
    assert str(path) in str(caught.value)
    if "HCL" in expected or "state file" in expected:
        assert "terraform show -json" in str(caught.value)


def test_firewalls_that_are_not_read(table: ct.ConnectionTable) -> None:
    result, _ = words(state(*GROUPS, resource("aws_networkfirewall_firewall", "f", name="f")), table)
    assert [note.message for note in result.notes] == [
        "aws_networkfirewall_firewall.f: aws_networkfirewall_firewall decides about packets and is not read."
    ]
