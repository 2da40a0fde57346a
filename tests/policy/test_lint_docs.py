"""docs/policy-lint.md shows what lint says."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest

import conntrack_py as ct
from conntrack_py.policy import document, formats, rulesets
from conntrack_py.policy.compiled import evaluate
from conntrack_py.policy.lint import CHECKS, Problem, lint, lint_firewall
from support import corpus
from support.program import ROOT

PAGE = (ROOT / "docs" / "policy-lint.md").read_text()
#: Check, language, example, and what lint says.
EXAMPLES = [
    (check, *example)
    for check, section in re.findall(r"^## (D\d+) [a-z-]+\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
    for example in re.findall(
        r"^```(toml|nft|yaml|iptables)\n(.*?)^```\n\n```text\n(.*?)^```", section, re.DOTALL | re.MULTILINE
    )
]


def test_every_check_is_there() -> None:
    rows = re.findall(r"^\| \[(D\d+)\]\(#(\S+)\) \| (\S+) \| (\w+) \| (\w+) \| (.*) \|$", PAGE, re.MULTILINE)
    assert [(check, anchor, name, severity, sentence) for check, anchor, name, severity, _, sentence in rows] == [
        (check, f"{check.lower()}-{known.name}", known.name, known.severity, known.sentence)
        for check, known in CHECKS.items()
    ]
    assert {check for check, *_, looks_at, _ in rows if looks_at == "traffic"} == {
        check for check, known in CHECKS.items() if known.needs_traffic
    }
    assert re.findall(r"^## (D\d+ \S+)$", PAGE, re.MULTILINE) == [
        f"{check} {known.name}" for check, known in CHECKS.items()
    ]
    # The capture has nobody whose initiator is in doubt, and a day passes.
    assert {check for check, *_ in EXAMPLES} == set(CHECKS) - {"D12"}


@pytest.mark.parametrize(("check", "language", "text", "shown"), EXAMPLES)
def test_examples(check: str, language: str, text: str, shown: str, demo_pcap: Path) -> None:
    found: list[Problem]
    if language == "nft":
        if os.geteuid() != 0 or not shutil.which("nft") or not shutil.which("unshare"):
            corpus.missing("reading nftables text needs root, nft and unshare")
        found = lint_firewall(rulesets.from_nft_text(text))
    elif language == "iptables":
        found = lint_firewall(rulesets.from_iptables_save(text))
    elif language == "yaml":
        found = lint(formats.read(text, "kubernetes", "web.yaml")[0])
    else:
        policy = document.loads(text, "toml")
        connections = ct.track(demo_pcap, local=["10.0.0.0/8"]).connections if CHECKS[check].needs_traffic else None
        found = lint(policy, connections, None if connections is None else evaluate(policy, connections)[0])
    assert [str(problem) for problem in found if problem.check == check] == shown.splitlines()
