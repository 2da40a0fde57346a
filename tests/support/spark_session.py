"""Sessions of Spark on this machine, and faults in their tasks."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest


def needs_java() -> None:
    """Skip the module where Spark cannot run."""
    pytest.importorskip("pyspark", reason="the extra `spark` is not installed")
    if shutil.which("java") is None and "JAVA_HOME" not in os.environ:
        pytest.skip("Java is not installed", allow_module_level=True)


def session(master: str, folder: Path, **options: str) -> Any:
    """A session whose sockets are of the loopback interface, and whose events are plain text in a folder."""
    os.environ["PYSPARK_PYTHON"] = os.environ["PYSPARK_DRIVER_PYTHON"] = sys.executable
    os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
    from pyspark.sql import SparkSession

    settings = {
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.eventLog.enabled": "true",
        "spark.eventLog.compress": "false",
        "spark.eventLog.rolling.enabled": "false",
        "spark.eventLog.dir": folder.as_uri(),
        "spark.local.dir": str(folder / "local"),
        "spark.sql.warehouse.dir": str(folder / "warehouse"),
        "spark.driver.memory": "1g",
        # A short run is over before compilation pays.
        "spark.sql.codegen.wholeStage": "false",
        "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1",
        **options,
    }
    builder = SparkSession.builder.master(master).appName("conntrack_py tests")
    for key, value in settings.items():
        builder = builder.config(key, value)
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("OFF")
    return spark


def fails(times: int, how: str, marks: Path) -> Callable[..., Iterator[Any]]:
    """The tracking of `conntrack_py.spark`, which fails at its first batch: `raise`, `kill` or `executor`.

    Args:
        times: As often, over all tasks; a mark in a folder counts one.
        how: An exception, SIGKILL of the Python worker, or of the executor above it.
        marks: An empty folder.
    """
    from pyspark import cloudpickle

    # No worker can import the tests.
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    folder = str(marks)

    def flows(config: Any, until: int | None, facts: bool, batches: Any) -> Iterator[Any]:
        from conntrack_py.spark import tracked

        def watched() -> Iterator[Any]:
            for batch in batches:
                for number in range(times):
                    try:
                        os.close(os.open(f"{folder}/{number}", os.O_CREAT | os.O_EXCL))
                    except FileExistsError:
                        continue
                    if how == "raise":
                        raise RuntimeError("a fault of the test")
                    os.kill(os.getpid() if how == "kill" else above(os.getppid()), signal.SIGKILL)
                yield batch

        yield from tracked(config, until, facts, watched())

    def above(pid: int) -> int:
        with open(f"/proc/{pid}/stat") as file:
            return int(file.read().rpartition(")")[2].split()[1])

    return flows
