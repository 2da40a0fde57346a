"""The walk of packets through the chains of a ruleset, as nf_hook_slow and nft_do_chain of Linux do it.

The first rule that matches decides, `jump` comes back and `goto` does not, and a packet has to be accepted by every
chain that a hook calls. Where a match is not known, both branches are followed, and the verdict is `unknown` unless
they agree.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from conntrack_py.exceptions import PolicyError
from conntrack_py.policy.deployed.packets import MAYBE, NO, YES, Bools, Ints, Levels, Packets
from conntrack_py.policy.rulesets.model import Base, Program, Step

ACCEPT, DROP = 1, 2
#: As deep as the kernel follows jumps (NFT_JUMP_STACK_SIZE), and rules looked at for one kind of packet.
_DEEPEST = 16
_MOST_STEPS = 200_000
#: The hooks that know the incoming and the outgoing interface of a packet.
_FACES = {
    "prerouting": (True, False),
    "input": (True, False),
    "forward": (True, True),
    "output": (False, True),
    "postrouting": (False, True),
}
#: The hooks of a path, in order.
PATHS = {
    "input": ("prerouting", "input"),
    "forward": ("prerouting", "forward", "postrouting"),
    "output": ("output", "postrouting"),
    "loopback": ("output", "postrouting", "prerouting", "input"),
    "ends": ("output", "input"),
}


@dataclass
class Verdicts:
    """Verdicts on packets.

    Attributes:
        bits: `ACCEPT`, `DROP`, or both where it is not known.
        by: The number of the rule that surely dropped a packet; -1: none; -2 and less: the policy of a chain.
        cause: The number of the first rule that is not known to match, where the verdict is unknown; -2 and less: not
            known is whether a chain protects the end; else -1.
        used: For each rule the packets that it surely decided about.
    """

    bits: Ints
    by: Ints
    cause: Ints
    used: dict[int, list[Ints]] = field(default_factory=dict)


class Walker:
    """A program, and its rules by number."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.steps: list[Step] = []
        self.chains: list[str] = []
        self._numbers: dict[str, list[int]] = {}
        for key, steps in program.steps.items():
            self._numbers[key] = list(range(len(self.steps), len(self.steps) + len(steps)))
            self.steps += steps
            self.chains += [key] * len(steps)
        self.reached = self._reach()

    def _reach(self) -> set[int]:
        """The numbers of the rules in chains that the kernel calls, or that are jumped to from there."""
        waiting, seen = [base.key for base in self.program.bases], set[str]()
        found: set[int] = set()
        while waiting:
            key = waiting.pop()
            if key in seen:
                continue
            seen.add(key)
            found.update(self._numbers.get(key, ()))
            waiting += [self.steps[number].target for number in self._numbers.get(key, ()) if self.steps[number].target]
        return found

    def bases(self, path: str) -> list[tuple[int, Base]]:
        """The chains of a path in the order of the kernel, numbered."""
        hooks = PATHS[path]
        listed = [one for one in enumerate(self.program.bases) if one[1].hook in hooks]
        return sorted(listed, key=lambda one: (hooks.index(one[1].hook), one[1].priority, one[0]))

    def judge(self, packets: Packets, path: str, rows: Ints) -> Verdicts:
        """The verdicts on packets that take a path; those of others are left at 0."""
        size = len(packets.proto)
        found = Verdicts(np.zeros(size, np.int64), np.full(size, -1, np.int64), np.full(size, -1, np.int64))
        found.bits[rows] = ACCEPT
        is_v6 = packets.addresses.is_v6[packets.source]
        for number, base in self.bases(path):
            if base.first_only and not packets.opening:
                continue
            seen = np.isin(np.where(is_v6[rows], 6, 4), sorted(base.versions))
            # A verdict that is not known may have changed the packet: what follows tells nothing about it. At the ends
            # nothing is changed, and a sure refusal stays one.
            open_ = (found.bits[rows] & ACCEPT > 0) if self.program.at_ends else found.bits[rows] == ACCEPT
            mine = rows[seen & open_]
            level = packets.members(base, mine)
            mine, level = mine[level > NO], level[level > NO]
            if len(mine):
                _Pass(self, packets, base, number, found).run(mine, level)
        return found


class _Pass:
    """The way of packets through one chain of a hook, and those it jumps to."""

    def __init__(self, walker: Walker, packets: Packets, base: Base, number: int, found: Verdicts) -> None:
        self._walker, self._packets, self._base, self._found = walker, packets, base, found
        self._number = number
        self._faces = _FACES[base.hook]
        self._bits = np.zeros(len(packets.proto), np.int64)
        self._by = np.full(len(packets.proto), -1, np.int64)
        self._cause = np.full(len(packets.proto), -1, np.int64)
        self._looked_at = 0

    def run(self, rows: Ints, level: Levels) -> None:
        """Judge packets, and add the verdicts of this chain to those found before.

        Args:
            rows: The packets.
            level: `YES` for those that the chain surely sees.
        """
        before = self._found.bits[rows]
        outside = rows[level == MAYBE]
        self._bits[outside] |= ACCEPT
        self._cause[outside] = -2 - self._number
        level = np.where(before == ACCEPT, level, MAYBE).astype(np.int8)
        back, sure = self._walk(self._base.key, rows, level, ())
        policy = {"accept": ACCEPT, "drop": DROP}.get(self._base.policy, ACCEPT | DROP)
        self._bits[rows[back]] |= policy
        if policy == DROP:
            self._by[rows[back & sure]] = -2 - self._number
        bits = self._bits[rows]
        dropped = rows[bits == DROP]
        self._found.by[dropped] = self._by[dropped]
        self._found.cause[dropped] = -1
        unknown = rows[(bits == ACCEPT | DROP) & (before == ACCEPT)]
        self._found.cause[unknown] = self._cause[unknown]
        self._found.bits[rows] = np.where(bits == DROP, DROP, bits | before)

    def _walk(self, key: str, rows: Ints, flow: Levels, path: tuple[str, ...]) -> tuple[Bools, Bools]:
        """Send packets through a chain.

        Args:
            key: The chain.
            rows: The packets.
            flow: `YES` for those that surely get here.
            path: The chains above.

        Returns:
            Which may come back, and which surely do if they got here.
        """
        here = np.full(len(rows), YES, np.int8)
        back, ended = np.zeros(len(rows), bool), np.zeros(len(rows), bool)
        for number in self._walker._numbers.get(key, ()):
            at = np.flatnonzero(here)
            if not len(at):
                break
            self._looked_at += 1
            if self._looked_at > _MOST_STEPS:
                raise PolicyError(
                    f"chain {key[:60]}: with its jumps there are more than {_MOST_STEPS} rules to look at"
                )
            step = self._walker.steps[number]
            level = self._packets.match(step.match, rows[at], self._faces)
            hit = level > NO
            at, level = at[hit], level[hit]
            if not len(at):
                continue
            self._doubt(number, rows[at[level == MAYBE]])
            sure = (level == YES) & (here[at] == YES) & (flow[at] == YES)
            if step.action in ("accept", "drop"):
                self._decide(number, step, rows[at], sure)
                ended[at] = True
                here[at] = np.where(level == YES, NO, MAYBE)
            elif step.action == "unknown":
                self._bits[rows[at]] |= ACCEPT | DROP
                self._doubt(number, rows[at])
                ended[at] = True
                here[at] = MAYBE
            elif step.action == "return":
                back[at] = True
                here[at] = np.where(level == YES, NO, np.minimum(here[at], MAYBE))
            else:
                self._jump(step, number, rows, at, (level, flow, here, back, ended), path)
        back |= here > NO
        return back, back & ~ended

    def _doubt(self, number: int, rows: Ints) -> None:
        first = rows[self._cause[rows] == -1]
        self._cause[first] = number

    def _decide(self, number: int, step: Step, rows: Ints, sure: Bools) -> None:
        self._bits[rows] |= ACCEPT if step.action == "accept" else DROP
        # The first rule that may drop names the refusal, where all branches end in one.
        if step.action == "drop":
            unnamed = rows[self._by[rows] == -1]
            self._by[unnamed] = number
        if sure.any():
            self._found.used.setdefault(number, []).append(rows[sure])

    def _jump(
        self,
        step: Step,
        number: int,
        rows: Ints,
        at: Ints,
        levels: tuple[Levels, Levels, Levels, Bools, Bools],
        path: tuple[str, ...],
    ) -> None:
        level, flow, here, back, ended = levels
        if step.target in path or len(path) >= _DEEPEST:
            self._bits[rows[at]] |= ACCEPT | DROP
            self._doubt(number, rows[at])
            ended[at] = True
            return
        inner = np.where((level == YES) & (here[at] == YES), flow[at], MAYBE).astype(np.int8)
        returns, surely = self._walk(step.target, rows[at], inner, (*path, step.target))
        ended[at] |= ~surely
        if step.action == "goto":
            back[at] |= returns
            here[at] = np.where(level == YES, NO, MAYBE)
            return
        taken = np.where(returns, np.where(surely, here[at], MAYBE), NO)
        passed = np.where(surely, here[at], MAYBE)
        here[at] = np.where(level == YES, taken, passed)


def any_of(rows: Iterable[Ints]) -> Ints:
    """Rows of several lists, in one."""
    listed = list(rows)
    return np.concatenate(listed) if listed else np.zeros(0, np.int64)
