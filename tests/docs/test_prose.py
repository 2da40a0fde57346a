"""Pages in short sentences, each with its purpose first; links that lead somewhere; doc comments that name a thing."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOP = ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")
PAGES = [*(ROOT / name for name in TOP), *sorted((ROOT / "docs").rglob("*.md"))]
#: The most words of a sentence, and the most lines of these pages.
LONGEST = 25
LINES = {"README.md": 180, "ARCHITECTURE.md": 200}
#: First words of a question, where a doc line should have a noun phrase or an imperative verb.
QUESTION = re.compile(r"(?:What|Who|Whose|Whether|How|Where)\b")
#: Doc comments that still begin like a question. Each number is exact: who mends one lowers it, and nobody raises it.
QUESTIONS = {"rust": 0, "benches": 0, "fuzz": 0, "python": 0, "tests": 0, "docs": 0}

_FENCE = re.compile(r"^\s*(?:```|~~~).*?^\s*(?:```|~~~)$", re.MULTILINE | re.DOTALL)
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_ITEM = re.compile(r"^\s*(?:[-*]|\d+\.)\s+")
#: Lines that are no prose: tables, headings, definitions of links, directives of mkdocstrings and their options.
_NO_PROSE = re.compile(r"^\s*(?:\||#|\[[^\]]+\]:|:::|:\w)")
_LINK = re.compile(r"!?\[([^\]]*)\](?:\([^)]*\)|\[[^\]]*\])")
_CODE = re.compile(r"``?[^`]+``?")
_END = re.compile(r"[.?!][)*\"]*(?=\s+[\"(*]*[A-Z0-9`\[]|$)")


def paragraphs(text: str) -> Iterator[str]:
    """The paragraphs and list items of a page, each in one line, without blocks of code and tables."""
    lines: list[str] = []
    for line in [*_COMMENT.sub("", _FENCE.sub("\n", text)).splitlines(), ""]:
        if lines and (_ITEM.match(line) or not line.strip() or _NO_PROSE.match(line)):
            yield " ".join(lines)
            lines = []
        if line.strip() and not _NO_PROSE.match(line):
            lines.append(_ITEM.sub("", line).strip())


def sentences(paragraph: str) -> list[str]:
    """The sentences of a paragraph; a piece of code counts as one word, and a link as its text."""
    plain = _LINK.sub(r"\1", _CODE.sub("`code`", paragraph))
    return [one for one in (part.strip() for part in _END.split(plain)) if one]


def words(sentence: str) -> int:
    return sum(bool(re.search(r"\w", word)) for word in sentence.split())


def rust_docs(source: str) -> Iterator[tuple[int, str]]:
    """The doc comments of a Rust file: the line of each, and its first line."""
    before = ""
    for number, line in enumerate(source.splitlines(), 1):
        mark, _, text = line.strip().partition(" ")
        if mark in ("///", "//!") and mark != before:
            yield number, text
        before = mark


def python_docs(source: str) -> Iterator[tuple[int, str]]:
    """The docstrings and `#:` comments of a Python file: the line of each, and its first line."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            doc = ast.get_docstring(node)
            if doc:
                yield node.body[0].lineno, doc.splitlines()[0]
    lines = ["", *source.splitlines()]
    for number, (before, line) in enumerate(pairwise(lines), 1):
        if line.strip().startswith("#: ") and not before.strip().startswith("#: "):
            yield number, line.strip()[3:]


def questions(top: str) -> list[str]:
    """The doc comments below a folder that begin like a question."""
    found = []
    for path in sorted((ROOT / top).rglob("*")):
        if path.suffix in (".rs", ".py") and "target" not in path.parts:
            docs = rust_docs if path.suffix == ".rs" else python_docs
            lines = docs(path.read_text())
            found += [f"{path.relative_to(ROOT)}:{line}: {text}" for line, text in lines if QUESTION.match(text)]
    return found


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_sentences_are_short(page: Path) -> None:
    every = [one for paragraph in paragraphs(page.read_text()) for one in sentences(paragraph)]
    assert [f"{words(one)} words: {one}" for one in every if words(one) > LONGEST] == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_a_page_begins_with_its_purpose(page: Path) -> None:
    """Below the title a sentence, and not a table, a list or a block."""
    title, _, rest = page.read_text().partition("\n\n")
    assert title.startswith("# ")
    assert re.match(r"[A-Z`]", rest), rest.splitlines()[0]


@pytest.mark.parametrize("page", LINES)
def test_length(page: str) -> None:
    assert len((ROOT / page).read_text().splitlines()) <= LINES[page]


@pytest.mark.parametrize("page", [*PAGES, ROOT / "benches" / "README.md"], ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    """Files and headings in the project; addresses of others are for the reader."""
    text = _FENCE.sub("\n", page.read_text())
    targets = re.findall(r"\]\(([^)\s]+)\)|^\[[^\]]+\]: (\S+)$", text, re.MULTILINE)
    for target in (inline or defined for inline, defined in targets):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = unquote(target).partition("#")
        file = page.parent / path if path else page
        assert file.exists(), f"{name(page)}: {target}"
        if anchor and not anchor.startswith("conntrack_py."):
            headings = re.findall(r"^#+ (.+)$", _FENCE.sub("\n", file.read_text()), re.MULTILINE)
            slugs = {re.sub(r"[ -]+", "-", re.sub(r"[^\w -]", "", heading.lower())) for heading in headings}
            assert anchor in slugs, f"{name(page)}: {target}"


@pytest.mark.parametrize("top", QUESTIONS)
def test_doc_comments_do_not_ask(top: str) -> None:
    found = questions(top)
    assert len(found) == QUESTIONS[top], "\n".join(found)


def test_the_measure() -> None:
    page = (
        "# T\n\nOne two. Three `a b c` [four five](x.md).\nSix?\n\n```text\nnot. this\n```\n\n- seven\n- an e.g. nine\n"
    )
    every = [one for paragraph in paragraphs(page) for one in sentences(paragraph)]
    assert [(words(one), one) for one in every] == [
        (2, "One two"),
        (4, "Three `code` four five"),
        (1, "Six"),
        (1, "seven"),
        (3, "an e.g. nine"),
    ]
    rust = "/// What it is.\n/// Where.\nfn a() {}\n//! Who.\n    /// A thing.\n"
    assert list(rust_docs(rust)) == [(1, "What it is."), (4, "Who."), (5, "A thing.")]
    python = '"""Whether."""\n#: How many.\n#: Two lines.\nA = 1\n'
    assert list(python_docs(python)) == [(1, "Whether."), (2, "How many.")]
