"""Kill a stream at random moments, many times, and compare what it published with a run that nobody killed.

    python benches/kills.py --kills 1000 --jobs 4

Every kind of output gets its share of the kills. A cut line of a growing file is counted: the restart takes it back.
All else that is wrong is an error: a file with a final name that cannot be read, and a row that is missing, twice or
different.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from support.publishing import Outcome, run_killed

#: Options and format of each kind of output.
KINDS = [
    ([], "csv"),
    ([], "jsonl"),
    (["--by", "hour"], "csv"),
    (["--by", "direction"], "parquet"),
    (["--by", "hour", "--rotate", "30m"], "parquet"),
    (["--rotate", "100"], "parquet"),
    (["--rotate", "20kB"], "jsonl"),
    (["--rotate", "1h"], "csv"),
]


def main() -> int:
    """Kill, compare, and print a line for each kind."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=22)
    options = parser.parse_args()
    begun = time.monotonic()
    share = -(-options.kills // len(KINDS))
    with tempfile.TemporaryDirectory() as directory, ThreadPoolExecutor(options.jobs) as pool:

        def one(number: int) -> Outcome:
            words, format = KINDS[number]
            outcome = run_killed(Path(directory) / str(number), share, words, format, options.seed + number)
            print(f"{' '.join(words) or 'one file'}, {format}: {outcome}", flush=True)
            return outcome

        outcomes = list(pool.map(one, range(len(KINDS))))
    print(f"{sum(one.kills for one in outcomes):,} kills in {time.monotonic() - begun:.0f} s")
    return int(any(one.missing or one.twice for one in outcomes))


if __name__ == "__main__":
    sys.exit(main())
