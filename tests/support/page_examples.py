"""The examples of pages: fenced blocks, and what running them in order prints."""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import conntrack_py as ct
from support.program import in_terminal

#: A fence at the margin; above it there may be a mark that says why it is not run.
_FENCE = re.compile(
    r"^(?:<!-- not run: (?P<mark>.+?) -->\n)?"
    r'^```(?P<language>\w*)(?: title="(?P<title>[^"]+)")?\n(?P<text>.*?)^```$',
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        language: The word behind the fence.
        text: What is in it.
        title: The file that it is, if it is one.
        mark: Why it is not run, or "".
        line: The line of its fence.
        behind: Whether nothing stands between it and the block before.
    """

    language: str
    text: str
    title: str
    mark: str
    line: int
    behind: bool


def blocks(page: str, language: str | None = None) -> list[Block]:
    """The fenced blocks of a page in order; only those of a language, if one is given."""
    found, end = [], -1
    for match in _FENCE.finditer(page):
        fence = match.start() + page[match.start() :].index("```")
        found.append(
            Block(
                language=match["language"],
                text=match["text"],
                title=match["title"] or "",
                mark=match["mark"] or "",
                line=page.count("\n", 0, fence) + 1,
                behind=end >= 0 and not page[end : match.start()].strip(),
            )
        )
        end = match.end()
    return [block for block in found if language in (None, block.language)]


def commands(block: str) -> list[tuple[str, str]]:
    """The commands of a console block, each with the output that is shown; a line may end with a backslash."""
    found = re.findall(r"^\$ ((?:.*\\\n)*.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE)
    assert "".join(f"$ {command}\n{output}" for command, output in found) == block, "lines before the first command"
    return found


def is_shown(shown: str, printed: str) -> bool:
    """True where the output matches; a line of three dots stands for any lines, and trailing spaces do not count."""
    # Of this machine: the bound that a stream begins with.
    printed = re.sub(r"(?m)^live connections: at most .*\n", "", printed)
    lines = [line.rstrip() for line in shown.rstrip().splitlines()]
    pattern = "".join(r"(?:.*\n)*" if line == "..." else re.escape(line) + r"\n" for line in lines)
    return re.fullmatch(pattern, "".join(f"{line.rstrip()}\n" for line in printed.rstrip().splitlines())) is not None


def run(page: Path) -> Iterator[tuple[Block, str, str, str]]:
    """Run the examples of a page in this directory, one after another.

    Returns:
        For each example that may print: its block, what was run, what is shown, and what was printed.
    """
    names: dict[str, Any] = {"__name__": page.stem}
    several = blocks(page.read_text())
    for number, block in enumerate(several):
        if block.mark:
            continue
        if block.language == "console":
            for command, shown in commands(block.text):
                yield block, command, shown, _console(command)
        elif block.language == "python":
            after = several[number + 1] if number + 1 < len(several) else None
            has_output = after is not None and after.language == "text" and after.behind and not after.mark
            shown = after.text if after is not None and has_output else ""
            yield block, block.text, shown, _python(block, page, names)
        elif block.language == "toml":
            _toml(block)
        else:
            before = several[number - 1] if number else None
            is_output = block.language == "text" and block.behind and before is not None and before.language == "python"
            assert is_output, f"{page.name}:{block.line}: how is a block of {block.language or 'no language'} tested?"


def _console(command: str) -> str:
    # The commands of this environment, whatever PATH says.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    status, printed = in_terminal(["bash", "-c", command], environment={"PATH": path})
    assert status == 0, (command, status, printed)
    return printed


def _python(block: Block, page: Path, names: dict[str, Any]) -> str:
    # Empty lines before it, so that tracebacks have the lines of the page.
    code = compile("\n" * block.line + block.text, str(page), "exec")
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(code, names)
    return out.getvalue()


def _toml(block: Block) -> None:
    """Write the file, for the examples behind it, and load it as what its name says."""
    assert block.title, f"line {block.line}: a file needs a name: title=..."
    Path(block.title).write_text(block.text)
    if block.title.startswith("policy"):
        assert ct.Policy.load(block.title).groups
    else:
        ct.Config.load(block.title)
