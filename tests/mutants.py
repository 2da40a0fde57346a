"""Mutation testing of one module: mutants that the tests let live, at most `--most` of them sampled by a fixed seed.

    python tests/mutants.py python/conntrack_py/text.py --tests tests/cli tests/output
    python tests/mutants.py rust/base/src/time.rs --tests --lib
    python tests/mutants.py rust/track/src/conn/opening.rs --above --tests --test shortcuts

Python mutants are cosmic-ray's, Rust mutants cargo-mutants'. Both work in a copy of the checkout below target/mutants,
so that an interrupted run leaves the sources as they are. Exit status: 0 all mutants were killed, 1 some survived,
2 the tests fail without a mutant, or a tool is missing.
"""

from __future__ import annotations

import argparse
import ast
import os
import random
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

ROOT = Path(__file__).resolve().parents[1]
WORK = ROOT / "target" / "mutants"
#: The seed of samples: two runs of one module have the same mutants.
SEED = 19
MOST = 300
#: Seconds for the tests of a mutant.
TIMEOUT = 600.0
#: Bytes of data that one process of a run may have.
MOST_MEMORY = 6 << 30
#: Tests of the modules that users import, which lie in no room of their own.
OF_THE_TOP = ("tests/track", "tests/output")

_T = TypeVar("_T")


def sample(mutants: Sequence[_T], most: int, seed: int) -> list[_T]:
    """At most so many mutants, in their order."""
    chosen = random.Random(seed).sample(range(len(mutants)), min(most, len(mutants)))
    return [mutants[number] for number in sorted(chosen)]


def copied(name: str) -> Path:
    """A copy of the files that git knows, and of the extension module. Files that are in it already keep their times,
    by which Cargo knows what to compile."""
    tree = WORK / name
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    built = [str(path.relative_to(ROOT)) for path in (ROOT / "python" / "conntrack_py").glob("_native*.so")]
    names = {name for name in (*listed.strip("\0").split("\0"), *built) if (ROOT / name).is_file()}
    for path in [path for path in tree.rglob("*") if path.is_file()]:
        if str(path.relative_to(tree)) not in names:
            path.unlink()
    for name in names:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        if not (tree / name).exists() or (tree / name).read_bytes() != (ROOT / name).read_bytes():
            shutil.copy(ROOT / name, tree / name)
    # The corpus lies beside a checkout.
    beside = WORK / "shared"
    if not beside.is_symlink() and (ROOT.parent / "shared").is_dir():
        beside.symlink_to((ROOT.parent / "shared").resolve())
    return tree


def tests_of(module: Path) -> list[str]:
    """The tests that mirror a Python module: the files of its name, or else the folder of its room."""
    found = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "tests").rglob(f"test_{module.stem}.py"))
    room = module.relative_to("python/conntrack_py").parts[0]
    return found or ([f"tests/{room}"] if (ROOT / "tests" / room).is_dir() else list(OF_THE_TOP))


def in_annotations(source: str) -> Callable[[tuple[int, int]], bool]:
    """A test for places within annotations, which nothing evaluates: mutants there are no mutants."""
    spans = []
    for node in ast.walk(ast.parse(source)):
        found = (getattr(node, "annotation", None), getattr(node, "returns", None))
        spans += [
            ((one.lineno, one.col_offset), (one.end_lineno or 0, one.end_col_offset or 0))
            for one in found
            if isinstance(one, ast.expr)
        ]
    return lambda place: any(start <= place < end for start, end in spans)


def python_survivors(module: Path, most: int, seed: int, tests: list[str]) -> list[str]:
    """The mutants of a Python module that live, each with its difference."""
    from cosmic_ray.commands import execute, init
    from cosmic_ray.config import ConfigDict
    from cosmic_ray.work_db import WorkDB, use_db
    from cosmic_ray.work_item import TestOutcome, WorkerOutcome, WorkResult

    tree = copied("python")
    os.chdir(tree)
    os.environ |= {"PYTHONPATH": str(tree / "python"), "PYTHONDONTWRITEBYTECODE": "1"}
    command = f"{sys.executable} -m pytest -x -q -p no:cacheprovider --no-header {' '.join(tests)}"
    if subprocess.run(command, shell=True, stdout=subprocess.DEVNULL).returncode != 0:
        raise SystemExit(f"the tests fail without a mutant: {command}")
    settings = {
        "module-path": str(module),
        "timeout": TIMEOUT,
        "excluded-modules": [],
        "test-command": command,
        "distributor": {"name": "local"},
    }
    session = WORK / "session.sqlite"
    session.unlink(missing_ok=True)
    with use_db(str(session), WorkDB.Mode.create) as database:
        init([module], database, {})
        is_annotation = in_annotations(module.read_text())
        mutants = [item for item in database.work_items if not is_annotation(item.mutations[0].start_pos)]
        mutants.sort(key=lambda item: (item.mutations[0].start_pos, _mutation(item)))
        chosen = {item.job_id for item in sample(mutants, most, seed)}
        others = [item.job_id for item in database.work_items if item.job_id not in chosen]
        database.set_multiple_results(others, WorkResult(worker_outcome=WorkerOutcome.SKIPPED))
        print(f"{len(chosen):,} of {len(mutants):,} mutants of {module}, by {' '.join(tests)}", flush=True)
        execute(database, ConfigDict(settings))
        return [
            f"{module}:{item.mutations[0].start_pos[0]}: {_mutation(item)}\n{result.diff}"
            for item, result in database.completed_work_items
            if result.test_outcome == TestOutcome.SURVIVED
        ]


def _mutation(item: Any) -> str:
    mutation = item.mutations[0]
    return f"{mutation.operator_name} {mutation.occurrence}"


def as_difference(module: Path, numbers: Sequence[int]) -> str:
    """A unified difference that adds these lines of a file."""
    text = (ROOT / module).read_text().splitlines()
    hunks = [
        f"@@ -{number - 1 - before},0 +{number} @@\n+{text[number - 1]}\n" for before, number in enumerate(numbers)
    ]
    return f"--- a/{module}\n+++ b/{module}\n{''.join(hunks)}"


def rust_survivors(module: Path, most: int, seed: int, tests: list[str], above: bool) -> list[str]:
    """The mutants of a Rust file that live, each in a line."""
    only = ["cargo", "mutants", "--file", str(module)]
    listed = subprocess.run([*only, "--list"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    mutants = listed.splitlines()
    chosen = sample(mutants, most, seed)
    print(f"{len(chosen):,} of {len(mutants):,} mutants of {module}", flush=True)
    if not chosen:
        return []
    config = WORK / "mutants.toml"
    config.parent.mkdir(parents=True, exist_ok=True)
    patterns = ",\n".join(f"'''^{re.escape(mutant)}$'''" for mutant in chosen)
    config.write_text(f"examine_re = [\n{patterns}\n]\n")
    # Deleted fields pass every pattern (cargo-mutants issue 632); outside the lines of a difference they are left out.
    lines = WORK / "lines.diff"
    lines.write_text(as_difference(module, sorted({int(mutant.split(":")[1]) for mutant in chosen})))
    run = [*only, "--config", str(config), "--in-diff", str(lines), "--output", str(WORK), "--no-times", "--in-place"]
    # For building as well as for running: else every mutant would build all test programs.
    run += [f"--cargo-arg={one}" for one in tests]
    # What other files compiled is compiled already.
    built = {"CARGO_TARGET_DIR": os.environ.get("CARGO_TARGET_DIR", str(WORK / "target"))}
    tree, environment = copied("rust"), os.environ | built
    if above:
        # cargo-mutants tries the tests without a mutant in the mutant's crate alone.
        if subprocess.run(["cargo", "test", "--workspace", *tests], cwd=tree, env=environment).returncode != 0:
            raise SystemExit("the tests fail without a mutant")
        run += ["--test-workspace=true", "--baseline=skip", f"--timeout={TIMEOUT}"]
    status = subprocess.run(run, cwd=tree, env=environment).returncode
    # 2: some survived; 3: some ran out of time, which kills them.
    if status not in (0, 2, 3):
        raise SystemExit(f"cargo mutants ended with {status}: {' '.join(run)}")
    return (WORK / "mutants.out" / "missed.txt").read_text().splitlines()


def main() -> int:
    """Print the survivors of the module of the command line."""
    # An abbreviation would take cargo's `--test` for `--tests`.
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("module", type=Path, help="a file below python/conntrack_py or rust")
    parser.add_argument("--most", type=int, default=MOST)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--tests", nargs="*", default=[], help="pytest's arguments, or those of cargo test")
    parser.add_argument("--above", action="store_true", help="with tests of other crates than the Rust file's")
    asked, more = parser.parse_known_args()
    # A mutant of a loop may allocate without end.
    resource.setrlimit(resource.RLIMIT_DATA, (MOST_MEMORY, MOST_MEMORY))
    module, tests = asked.module, [*asked.tests, *more]
    if module.suffix == ".rs":
        found = rust_survivors(module, asked.most, asked.seed, tests, asked.above)
    else:
        found = python_survivors(module, asked.most, asked.seed, tests or tests_of(module))
    for survivor in found:
        print(survivor)
    print(f"survived: {len(found):,}")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
