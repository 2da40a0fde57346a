"""Ask the running kernel about random packets: captures and nf_conntrack's word on every packet, for tests/kernel.rs.

    python tests/support/kernel_answers.py OUT --seeds 1-200 --mixed 1-20 [--packets 600]

Needs root, /dev/net/tun, the programs `ip` and `nft`, and `../shared/tools`. It works in a network namespace of its
own. Exit status 77: something of this is missing, and a line says what.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

TOOLS = Path(__file__).resolve().parents[2].parent / "shared" / "tools"
MISSING = 77


def missing() -> str | None:
    """The reason why the kernel cannot be asked; None if the kernel can."""
    if not TOOLS.is_dir():
        return f"{TOOLS.name} is not at ../shared/tools"
    if os.geteuid() != 0:
        return "it needs root"
    if not Path("/dev/net/tun").exists():
        return "there is no /dev/net/tun"
    programs = [program for program in ("ip", "nft") if shutil.which(program) is None]
    return f"not installed: {', '.join(programs)}" if programs else None


def seeds(text: str) -> range:
    """`1-200`, or one number; `0` for none."""
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1) if int(first) else range(0)


def ask(seed: int, out: Path, packets: int, mixed: bool) -> None:
    """One capture, and the kernel's word on it."""
    stem = out / f"{'mixed' if mixed else 'tcp'}-{seed:05}"
    capture, answers = stem.with_suffix(".pcap"), stem.with_suffix(".jsonl")
    make = [sys.executable, TOOLS / "kernel_fuzz.py", str(seed), capture, "--packets", str(packets)]
    subprocess.run([*make, *([] if mixed else ["--tcp-only"])], check=True)
    look = [sys.executable, TOOLS / "kernel_oracle.py", capture, "--time", "virtual", "--full", "--all", "-o", answers]
    subprocess.run(look, check=True, stderr=subprocess.DEVNULL)


def main() -> int:
    """Ask for every seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=seeds, default=seeds("1-20"), help="TCP only")
    parser.add_argument("--mixed", type=seeds, default=seeds("1-3"), help="UDP and ICMP too")
    parser.add_argument("--packets", type=int, default=600)
    given = parser.parse_args()
    why = missing()
    if why is not None:
        print(f"the kernel was not asked: {why}")  # noqa: T201
        return MISSING
    shutil.rmtree(given.out, ignore_errors=True)
    given.out.mkdir(parents=True)
    with ThreadPoolExecutor(os.cpu_count()) as workers:
        jobs = [workers.submit(ask, seed, given.out, given.packets, False) for seed in given.seeds]
        jobs += [workers.submit(ask, seed, given.out, given.packets, True) for seed in given.mixed]
        for job in jobs:
            job.result()
    print(f"the kernel was asked about {len(jobs)} captures of {given.packets} packets")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
