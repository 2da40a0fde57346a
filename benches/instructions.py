"""Instructions a packet of the core, counted by callgrind: a gate for CI, and a table of stages.

    python benches/instructions.py A=A.pcap mix=mix.pcap             fail where a count is 5 % above the accepted one
    python benches/instructions.py A=A.pcap mix=mix.pcap --update    accept the counts: rewrite instructions.toml
    python benches/instructions.py A=A.pcap --stages [--labels]      print where the instructions go

`make bench-instructions` and `make bench-stages` make the captures and call this script. The program is the core's
example `track`: one thread, and a fixed key for every hash. Two runs give equal counts, on a busy machine, too. The
count of a capture without packets, which is the start of the process, is subtracted.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import tomllib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

#: Stage and the names of its functions, in the order of a packet's path; `*` stands for anything. A function belongs to
#: the first stage with a pattern of its name. Any other function belongs to the stages that call it, in proportion.
STAGES: Sequence[tuple[str, Sequence[str]]] = (
    ("headers to records", ["conntrack_capture::*"]),
    ("duplicate marks", ["conntrack_output::quality::*", "conntrack_core::pipeline::reading::Reading::mark_copies"]),
    ("decode with key and hash", ["conntrack_core::pipeline::reading::*", "conntrack_decode::*"]),
    (
        "index and slots",
        [
            "conntrack_track::table::ahead::*",
            "conntrack_track::table::FlowTable::find",
            "conntrack_track::table::index::*",
            "conntrack_track::table::width::*::search",
        ],
    ),
    (
        "slow path",
        [
            "conntrack_track::tracker::Tracker::record",
            "conntrack_track::tracker::gateway::*",
            "conntrack_track::tracker::slow::*",
            "conntrack_track::proto::*",
            "conntrack_track::zeek::*",
        ],
    ),
    (
        "rows and the end",
        [
            "conntrack_core::pipeline::finish",
            "conntrack_core::hindsight::*",
            "conntrack_output::labels::*",
            "conntrack_output::rows::*",
            "conntrack_base::slab::*::drain",
            "conntrack_track::table::FlowTable::drain",
            "conntrack_track::tracker::hand_out",
        ],
    ),
    (
        "steps",
        ["conntrack_core::pipeline::following::*", "conntrack_track::tracker::shortcut::*", "conntrack_track::conn::*"],
    ),
)
#: Functions without a stage, directly or by a caller.
REST = "the rest"

ROOT = Path(__file__).resolve().parents[1]
ACCEPTED = ROOT / "benches" / "instructions.toml"
#: Times the accepted count that is too much.
MOST = 1.05
#: Times the accepted count below which it is worth accepting the new one.
FEWER = 0.95
#: A pcap file without packets.
_EMPTY = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
_BUILD = "cargo build --release --locked -p conntrack-core --example track --message-format json-render-diagnostics"
_PRINTED = re.compile(r"(\d+) packets, \d+ rows\n")
_HEAD = """\
# Accepted instructions a packet, which CI compares with. Rewrite them on purpose: make bench-instructions UPDATE=1
"""
#: Rounds in which shares pass from callers to those they call: more than calls are deep.
_DEPTH = 200


class Profile(NamedTuple):
    """A callgrind file."""

    total: int
    #: Instructions of a function alone.
    own: dict[str, int]
    #: Instructions of calls, by caller and called function, with everything below.
    calls: dict[tuple[str, str], int]


@dataclass(frozen=True)
class Counted:
    """A run of the program."""

    packets: int
    profile: Profile


class Count(NamedTuple):
    """Instructions a packet, and of how many packets."""

    packets: int
    instructions: float


def parse(lines: Iterator[str]) -> Profile:
    """Read a callgrind file of one event."""
    names: dict[str, str] = {}
    own: dict[str, int] = defaultdict(int)
    calls: dict[tuple[str, str], int] = defaultdict(int)
    total, caller, called, is_call = 0, "", "", False
    for line in lines:
        if match := re.match(r"(c?fn)=\((\d+)\)(?: (.*))?", line):
            kind, number, name = match.groups()
            name = names.setdefault(number, name or number)
            caller, called = (name, called) if kind == "fn" else (caller, name)
        elif line.startswith("calls="):
            is_call = True
        elif caller and (match := re.match(r"[0-9+*-]\S* (\d+)$", line)):
            cost = int(match[1])
            if is_call:
                calls[caller, called] += cost
            else:
                own[caller] += cost
            is_call = False
        elif line.startswith("totals:"):
            total = int(line.split()[1])
    return Profile(total, dict(own), dict(calls))


def stage_of(function: str, stages: Sequence[tuple[str, Sequence[str]]]) -> str | None:
    """The stage with a pattern of this function's name."""
    # Callgrind numbers the levels of a recursion.
    name = re.sub(r"'\d+$", "", function)
    return next((stage for stage, patterns in stages if any(fnmatchcase(name, one) for one in patterns)), None)


def by_stage(profile: Profile, stages: Sequence[tuple[str, Sequence[str]]] = STAGES) -> dict[str, float]:
    """Instructions of each stage without those of other stages that it calls; together they are the total."""
    callers: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for (caller, called), cost in profile.calls.items():
        if caller != called:
            callers[called].append((caller, cost))
    shares: dict[str, dict[str, float]] = {}
    inherits = []
    for name in {*profile.own, *callers}:
        stage = stage_of(name, stages)
        if stage is None and callers[name]:
            inherits.append(name)
        else:
            shares[name] = {stage or REST: 1.0}
    for _ in range(_DEPTH):
        before = dict(shares)
        shares.update((name, mixed) for name in inherits if (mixed := _mixed(callers[name], shares)))
        if shares == before:
            break
    found = dict.fromkeys([*(stage for stage, _ in stages), REST], 0.0)
    for name, cost in profile.own.items():
        for stage, share in shares.get(name, {REST: 1.0}).items():
            found[stage] += share * cost
    return found


def _mixed(callers: list[tuple[str, int]], shares: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Shares of the callers, weighted with the instructions of their calls."""
    mixed: dict[str, float] = defaultdict(float)
    for caller, cost in callers:
        for stage, share in shares.get(caller, {}).items():
            mixed[stage] += share * max(cost, 1)
    total = sum(mixed.values())
    # Rounded, so that the rounds come to an end.
    return {stage: round(share / total, 6) for stage, share in mixed.items()}


def unmatched(profile: Profile, stages: Sequence[tuple[str, Sequence[str]]] = STAGES) -> list[str]:
    """Stages without a function in a profile: their patterns are out of date, or their functions were inlined."""
    found = {stage_of(name, stages) for name in profile.own}
    return [stage for stage, _ in stages if stage not in found]


def run(program: Path, capture: Path, labels: bool) -> Counted:
    """Track a capture under callgrind, without an environment and under fixed names, which would change the count."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "track").symlink_to(program.resolve())
        (folder / "trace.pcap").symlink_to(capture.resolve())
        tool = [str(shutil.which("valgrind")), "--tool=callgrind", "--vgdb=no", "--callgrind-out-file=profile"]
        command = [*tool, "./track", "trace.pcap", *(["--labels"] if labels else [])]
        done = subprocess.run(command, cwd=folder, env={}, capture_output=True, text=True, check=False)
        printed = _PRINTED.fullmatch(done.stdout)
        if done.returncode or printed is None:
            raise SystemExit(f"{program} {capture}: exit status {done.returncode}\n{done.stdout}{done.stderr}")
        with (folder / "profile").open() as lines:
            return Counted(int(printed[1]), parse(lines))


def start(program: Path, labels: bool) -> Profile:
    """The start of the process: a capture without packets."""
    with tempfile.TemporaryDirectory() as scratch:
        empty = Path(scratch) / "empty.pcap"
        empty.write_bytes(_EMPTY)
        return run(program, empty, labels).profile


def count(program: Path, name: str, capture: Path, base: Profile) -> Count:
    """Instructions a packet, the same in two runs."""
    first, second = (run(program, capture, labels=False) for _ in range(2))
    if first.profile.total != second.profile.total:
        found = f"found {first.profile.total:,} and then {second.profile.total:,} instructions, expected equal counts"
        raise SystemExit(f"{name}: {found}: find what depends on time, addresses or random numbers")
    return Count(first.packets, round((first.profile.total - base.total) / max(first.packets, 1), 1))


def complaint(name: str, found: Count, accepted: Count | None) -> str | None:
    """The fault of a count and what to do; None for an accepted count."""
    accept = "accept the count on purpose: make bench-instructions UPDATE=1, and commit benches/instructions.toml"
    if accepted is None:
        return f"{name}: found {found.instructions:,} instructions a packet, expected an accepted count; {accept}"
    if found.packets != accepted.packets:
        packets = f"found {found.packets:,} packets, expected {accepted.packets:,}"
        return f"{name}: {packets}: the capture is another one; {accept}"
    if found.instructions > accepted.instructions * MOST:
        more = f"{found.instructions / accepted.instructions - 1:.1%} more than the accepted {accepted.instructions:,}"
        expected = f"expected {accepted.instructions * MOST:,.1f} at most"
        words = f"found {found.instructions:,} instructions a packet ({more}), {expected}"
        return f"{name}: {words}; take them back (make bench-stages shows where they are), or {accept}"
    return None


def read_accepted(path: Path) -> dict[str, Count]:
    """The accepted counts; none where the file is absent."""
    if not path.exists():
        return {}
    tables = tomllib.loads(path.read_text())
    return {name: Count(table["packets"], table["instructions"]) for name, table in tables.items()}


def write_accepted(path: Path, counts: Mapping[str, Count]) -> None:
    """Write the accepted counts."""
    tables = [
        f"\n[{name}]\npackets = {one.packets}\ninstructions = {one.instructions}\n"
        for name, one in sorted(counts.items())
    ]
    path.write_text(_HEAD + "".join(tables))


def check(counts: dict[str, Count], path: Path, update: bool) -> list[str]:
    """Print the counts beside the accepted ones, or accept them; return the complaints."""
    accepted = read_accepted(path)
    print("| capture | packets | instructions a packet | accepted | change |\n|---|---|---|---|---|")
    complaints = []
    for name, found in counts.items():
        known = accepted.get(name)
        change = f"{known.instructions:,} | {found.instructions / known.instructions - 1:+.1%}" if known else "– | –"
        print(f"| {name} | {found.packets:,} | {found.instructions:,} | {change} |")
        if known and found.instructions < known.instructions * FEWER and not update:
            print(f"{name}: fewer than accepted; UPDATE=1 keeps them from coming back", file=sys.stderr)
        complaints += [wrong for wrong in [complaint(name, found, known)] if wrong]
    if update:
        write_accepted(path, accepted | counts)
        return []
    return complaints


def stages(program: Path, captures: Mapping[str, Path], labels: bool) -> None:
    """Print instructions a packet, stage by stage."""
    below = by_stage(start(program, labels))
    columns, absent = [], set[str]()
    for capture in captures.values():
        counted = run(program, capture, labels)
        columns.append({s: (n - below[s]) / max(counted.packets, 1) for s, n in by_stage(counted.profile).items()})
        absent.update(unmatched(counted.profile))
    print(f"| instructions a packet | {' | '.join(captures)} |", "|---" * (len(columns) + 1) + "|", sep="\n")
    for stage in [*(stage for stage, _ in STAGES), REST]:
        print(f"| {stage} | {' | '.join(f'{column[stage]:,.0f}' for column in columns)} |")
    print(f"| all | {' | '.join(f'{sum(column.values()):,.0f}' for column in columns)} |")
    if absent:
        print(f"\nStages without a function of their own in some capture: {', '.join(sorted(absent))}")


def build() -> Path:
    """Build the program."""
    done = subprocess.run(_BUILD.split(), cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    for line in done.stdout.splitlines():
        with contextlib.suppress(KeyError):
            message = json.loads(line)
            if message["executable"] and message["target"]["name"] == "track":
                return Path(message["executable"])
    raise SystemExit(f"{_BUILD}: exit status {done.returncode}")


def skip(reason: str) -> None:
    """Say what is left out, or fail where nothing may be left out (`CI=true`)."""
    if os.environ.get("CI") == "true":
        raise SystemExit(reason)
    print(f"skipped {reason}")


def main() -> None:
    """Count, and compare or print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("captures", nargs="+", metavar="NAME=FILE")
    parser.add_argument("--program", type=Path, help="in place of the core's example, which is built")
    parser.add_argument("--accepted", type=Path, default=ACCEPTED, help="file of the accepted counts")
    parser.add_argument("--update", action="store_true", help="accept the counts")
    parser.add_argument("--stages", action="store_true", help="print where the instructions go")
    parser.add_argument("--labels", action="store_true", help="a label for every packet, too (stages only)")
    given = parser.parse_args()
    if shutil.which("valgrind") is None:
        skip("counts of instructions: valgrind is not there; Debian: valgrind")
        return
    captures = {}
    for one in given.captures:
        name, _, path = one.rpartition("=")
        if Path(path).exists():
            captures[name or Path(path).stem] = Path(path)
        else:
            skip(f"{name}: {path} is not there")
    program = given.program or build()
    if given.stages:
        stages(program, captures, given.labels)
        return
    base = start(program, labels=False)
    counts = {name: count(program, name, capture, base) for name, capture in captures.items()}
    complaints = check(counts, given.accepted, given.update)
    if complaints:
        raise SystemExit("\n".join(complaints))


if __name__ == "__main__":
    main()
