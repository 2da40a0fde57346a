"""Fuzz a target of Python, guided by the coverage of the package's Python code.

    python fuzz/python/run.py policy fuzz/corpus/policy -max_total_time=60

Targets: policy, rulesets, tables. Everything after the target goes to libFuzzer. Needs atheris, from PyPI.
"""

from __future__ import annotations

import importlib
import sys

import atheris


def main() -> None:
    """Instrument the package, and hand over to libFuzzer."""
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    name = sys.argv.pop(1)
    with atheris.instrument_imports(include=["conntrack_py", name]):
        target = importlib.import_module(name)
    atheris.Setup(sys.argv, target.test_one_input, enable_python_coverage=True)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
