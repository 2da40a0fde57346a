"""The program, run with pipes or in a terminal."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

#: The program, as `conntrack-py`.
COMMAND = [sys.executable, "-m", "conntrack_py"]


def run(*args: str | Path, stdin: bytes = b"", **environment: str) -> subprocess.CompletedProcess[bytes]:
    """The program with pipes, as a script runs it."""
    return subprocess.run(
        [*COMMAND, *map(str, args)], input=stdin, capture_output=True, env=os.environ | environment, timeout=60
    )


def interrupted(*args: str | Path, stdin: bytes) -> str:
    """Standard error of the program, interrupted by Ctrl-C while it waits for more input."""
    with subprocess.Popen(
        [*COMMAND, *map(str, args)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        process.stdin.write(stdin)
        process.stdin.flush()
        time.sleep(1.5)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        errors = process.stderr.read().decode()
    assert process.returncode == 130
    return errors


def without_bounds(errors: bytes) -> bytes:
    """Standard error without the line that a stream without an end begins with."""
    first, _, rest = errors.partition(b"\n")
    assert first.startswith(b"live connections: at most"), errors
    return rest


def in_terminal(
    command: list[str], *, columns: int = 80, cwd: Path | None = None, environment: Mapping[str, str] | None = None
) -> tuple[int, str]:
    """The exit status of a command in a terminal of that width, and what it prints there."""
    leader, follower = pty.openpty()
    size = {"COLUMNS": str(columns), "LINES": "50", "TERM": "xterm", "NO_COLOR": "1"}
    with subprocess.Popen(
        command, stdout=follower, stderr=follower, env={**os.environ, **size, **(environment or {})}, cwd=cwd
    ) as process:
        os.close(follower)
        output = b""
        while True:
            try:
                piece = os.read(leader, 4096)
            except OSError:  # how Linux says that nobody has the other end any more
                break
            if not piece:
                break
            output += piece
        status = process.wait(30)
    os.close(leader)
    return status, re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", output.decode()).replace("\r\n", "\n")


def terminal(*args: str | Path, columns: int = 80, cwd: Path | None = None) -> str:
    """Output of the program on a terminal of a width."""
    status, printed = in_terminal([*COMMAND, *map(str, args)], columns=columns, cwd=cwd)
    assert status == 0, printed
    return printed
