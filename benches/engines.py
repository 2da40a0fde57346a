"""Costs of a cluster's machinery on one machine: CPU and memory of `track` in one process, and of Spark by stage.

    .venv/bin/python benches/engines.py --packets 500000 5000000

CPU seconds are of the whole process tree, sampled: the JVM, its Python workers, and what has ended since.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

TICKS = os.sysconf("SC_CLK_TCK")
#: Seconds between samples; what lives shorter is not seen.
PAUSE = 0.1


class Tree:
    """CPU seconds by program and the largest memory of a process tree."""

    def __init__(self, root: int) -> None:
        self.root, self.peak = root, 0
        self.cpu: dict[int, tuple[str, float]] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Tree:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(PAUSE):
            self._sample()

    def _sample(self) -> None:
        parents, found = {}, {}
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                name, _, rest = (entry / "stat").read_text().partition("(")[2].rpartition(")")
                pages = int((entry / "statm").read_text().split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
            fields = rest.split()
            parents[int(entry.name)] = int(fields[1])
            found[int(entry.name)] = (name, (int(fields[11]) + int(fields[12])) / TICKS, pages)
        memory = 0
        for pid, (name, seconds, pages) in found.items():
            above = pid
            while above in parents and above != self.root:
                above = parents[above]
            if above == self.root:
                self.cpu[pid] = (name, seconds)
                memory += pages * os.sysconf("SC_PAGE_SIZE")
        self.peak = max(self.peak, memory)

    def seconds(self) -> dict[str, float]:
        """CPU seconds by program."""
        total: dict[str, float] = defaultdict(float)
        for name, seconds in self.cpu.values():
            total["java" if name == "java" else "python"] += seconds
        return dict(total)


def measured(program: str, *arguments: str) -> tuple[float, dict[str, float], int]:
    """Wall seconds, CPU seconds by program, and the largest memory in bytes of a Python program."""
    start = time.perf_counter()
    with subprocess.Popen([sys.executable, "-c", program, *arguments], stdout=subprocess.DEVNULL) as process:
        tree = Tree(process.pid)
        with tree:
            code = process.wait()
    if code:
        raise SystemExit(f"exit status {code}: {program}")
    return time.perf_counter() - start, tree.seconds(), tree.peak


ONE = "import sys, conntrack_py as ct; print(len(ct.track(sys.argv[1], threads=1).connections))"
SPARK = """
import sys
from pathlib import Path
sys.path.insert(0, "tests")
from support import spark_session
import conntrack_py.spark as cts
spark = spark_session.session("local[2]", Path(sys.argv[1]), **{
    "spark.driver.memory": "2g",
    "spark.sql.codegen.wholeStage": "true",
    "spark.driver.extraJavaOptions": "",
})
frame = cts.track(spark, sys.argv[2:], shards=int(SHARDS), range_bytes=128 << 20)
(frame.write.format("noop").mode("overwrite").save())
spark.stop()
"""


def stages(folder: Path) -> list[dict[str, Any]]:
    """The stages of the event logs: tasks, seconds of CPU in the JVM's task threads, bytes shuffled and exchanged."""
    found: dict[int, dict[str, Any]] = {}
    for log in folder.iterdir():
        if not log.is_file():
            continue
        for line in log.read_text().splitlines():
            event = json.loads(line)
            if event["Event"] == "SparkListenerTaskEnd" and (metrics := event.get("Task Metrics")):
                stage = found.setdefault(event["Stage ID"], defaultdict(float))
                stage["tasks"] += 1
                stage["jvm_s"] += metrics["Executor CPU Time"] / 1e9
                stage["run_s"] += metrics["Executor Run Time"] / 1e3
                stage["longest_s"] = max(stage["longest_s"], metrics["Executor Run Time"] / 1e3)
                stage["shuffled"] += metrics["Shuffle Write Metrics"]["Shuffle Bytes Written"]
                for one in event["Task Info"]["Accumulables"]:
                    if "Python workers" in str(one.get("Name")) and str(one.get("Update", "")).isdigit():
                        stage[one["Name"]] += int(one["Update"])
    return [{"stage": number, **found[number]} for number in sorted(found)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--packets", type=int, nargs="+", default=[500_000])
    parser.add_argument("--shards", type=int, default=64)
    parser.add_argument("--elephant", type=float, default=0, help="share of the connections between one pair")
    arguments = parser.parse_args()
    for packets in arguments.packets:
        with tempfile.TemporaryDirectory() as folder:
            capture, events = Path(folder, "trace.pcap"), Path(folder, "events")
            events.mkdir()
            trace = Path(__file__).with_name("make_trace.py")
            subprocess.run(
                [
                    sys.executable,
                    trace,
                    capture,
                    "--packets",
                    str(packets),
                    "--connections",
                    str(packets // 20),
                    "--elephant",
                    str(arguments.elephant),
                ],
                check=True,
            )
            for name, result in (
                ("track, one thread", measured(ONE, str(capture))),
                (
                    "Spark local[2]",
                    measured(SPARK.replace("SHARDS", str(arguments.shards)), str(events), str(capture)),
                ),
            ):
                wall, cpu, peak = result
                parts = ", ".join(f"{key} {seconds:.1f} s" for key, seconds in sorted(cpu.items()))
                whole = f"{sum(cpu.values()):.1f} s of CPU ({parts}), {wall:.1f} s, {peak >> 20} MiB"
                print(f"{packets:,} packets, {name}: {whole}", flush=True)
            for stage in stages(events):
                print("   ", {key: round(value, 2) for key, value in stage.items()}, flush=True)


if __name__ == "__main__":
    main()
