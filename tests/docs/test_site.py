"""The pages of docs/ say what is true: their examples are run, their tables compared, and the site asks nobody else."""

from __future__ import annotations

import dataclasses
import importlib.util
import io
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pyarrow
import pytest

import conntrack_py as ct
from conntrack_py import _native
from support import page_examples
from support.program import ROOT

DOCS = ROOT / "docs"
#: Pages whose examples have tests of their own.
ELSEWHERE = {
    "policy-formats.md": "policy/test_formats.py",
    "policy-lint.md": "policy/test_lint_docs.py",
    "dask.md": "engines/test_engine_pages.py",
    "ray.md": "engines/test_engine_pages.py",
    "spark.md": "engines/test_engine_pages.py",
}
PAGES = [path for path in sorted(DOCS.rglob("*.md")) if path.name not in ELSEWHERE]
#: Blocks of a page that are marked as not run; the mark above each gives the reason.
NOT_RUN = {
    "how-to/translations.md": 1,  # captures of both sides of a gateway
    "quick-start.md": 2,  # installs, and makes the capture that is already there
    "how-to/wireshark.md": 2,  # tshark, which not everybody has, and Wireshark's filter bar
    "how-to/live.md": 4,  # needs root and an interface; tests/interfaces and tests/cli/test_live.py
    "how-to/ci.md": 1,  # a job for a code host
    "how-to/flow-logs.md": 1,  # the logs of a cloud
    "record.md": 1,  # a picture
    "reference/command-line.md": 1,  # writes to the home directory
}


def name(path: Path) -> str:
    return path.relative_to(DOCS).as_posix()


def table(page: str, first: str) -> list[list[str]]:
    """The cells of the table of a page whose head begins with that word, without its head."""
    text = (DOCS / page).read_text()
    (rows,) = re.findall(rf"^\| {first} \|.*\n\|[-|]*\n((?:\|.*\n)+)", text, re.MULTILINE)
    return [[cell.strip() for cell in row.split("|")[1:-1]] for row in rows.splitlines()]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_examples(page: Path, here: Path) -> None:
    for block, what, shown, printed in page_examples.run(page):
        assert page_examples.is_shown(shown, printed), f"{name(page)}:{block.line}: {what}\nprinted:\n{printed}"


def test_no_block_escapes() -> None:
    marked = {}
    for page in PAGES:
        text = page.read_text()
        blocks = page_examples.blocks(text)
        assert len(re.findall(r"^\s*(?:```|~~~)", text, re.MULTILINE)) == 2 * len(blocks), name(page)
        marked[name(page)] = sum(bool(block.mark) for block in blocks)
        assert text.count("<!-- not run") == marked[name(page)], f"{name(page)}: a mark is not above a fence"
    assert {page: count for page, count in marked.items() if count} == NOT_RUN
    assert all((ROOT / "tests" / test).is_file() and (DOCS / page).is_file() for page, test in ELSEWHERE.items())


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        ("a\nb\n", "a  \nb\n\n", True),
        ("a\n...\nd\n", "a\nb\nc\nd\n", True),
        ("a\n...\n", "a\n", True),
        ("", "", True),
        ("a\n", "a\nb\n", False),
        ("a\n...\nd\n", "a\nb\n", False),
        ("a.c\n", "abc\n", False),
        ("", "a\n", False),
    ],
)
def test_what_is_shown_is_compared(shown: str, printed: str, same: bool) -> None:
    assert page_examples.is_shown(shown, printed) == same


def test_every_public_name_is_described() -> None:
    # The function `track` has the name of its module, which the site's generator would describe instead.
    described = re.findall(
        r"^::: conntrack_py\.(?:track\.|flows\.|interfaces\.live\.|summaries\.|reporting\.make\.)?(\w+)$",
        (DOCS / "reference" / "python.md").read_text(),
        re.MULTILINE,
    )
    assert sorted(set(described) - {"analysis", "read"}) == sorted(set(ct.__all__) - {"__version__"})


def test_columns(demo_pcap: Path) -> None:
    connections = ct.track(demo_pcap, labels=True)
    gateway = "udp 17 9 src=10.0.0.1 dst=8.8.8.8 sport=9 dport=53 src=8.8.8.8 dst=192.0.2.1 sport=53 dport=9\n"
    translated = ct.translations(io.BytesIO(gateway.encode()))

    def words(of: ct.ConnectionTable, column: str) -> list[str]:
        dtype = of[column].dtype
        kind = pyarrow.table(of).schema.field(column).type
        is_word = pyarrow.types.is_dictionary(kind)
        arrow = f"dictionary of {kind.value_type}" if is_word else str(kind).replace("tz=", "")
        return [f"`{column}`", "str" if dtype.kind == "U" else dtype.name, arrow]

    rows = table("reference/columns.md", "column")
    names = connections.connections.columns
    assert [row[:3] for row in rows] == [words(connections.connections, one) for one in names]
    further = [row[:3] for row in table("reference/columns.md", "further column")]
    assert further == [words(translated, one) for one in translated.columns[len(names) :]]
    assert connections.labels is not None
    fields = connections.labels.dtype
    assert [row[:2] for row in table("reference/columns.md", "field")] == [
        [f"`{field}`", fields[field].name] for field in fields.names or ()
    ]


def test_configuration() -> None:
    rows = table("reference/configuration.md", "key")
    assert [row[0] for row in rows] == [f"`{field.name}`" for field in dataclasses.fields(ct.Config)]
    for key, default, _ in rows:
        # That of `local` is in words; `test_config.py` has the networks.
        if key != "`local`":
            assert eval(default.strip("`")) == getattr(ct.Config(), key.strip("`")), key


def test_timeouts() -> None:
    rows = table("reference/configuration.md", "timeout")
    profiles = [ct.Config(profile=profile).effective_timeouts for profile in _native.PROFILES]
    assert rows == [[f"`{one}`", *(f"{timeouts[one]:g}" for timeouts in profiles)] for one in profiles[0]]
    assert f"| timeout | {' | '.join(_native.PROFILES)} |" in (DOCS / "reference" / "configuration.md").read_text()


def test_numbers_are_measured() -> None:
    measured = (ROOT / "benches" / "README.md").read_text()
    for row in [*table("how-to/speed.md", "capture"), *table("how-to/speed.md", "flows")]:
        assert f"| {' | '.join(row)} |" in measured


def test_completion_is_described() -> None:
    assert "conntrack-py completion bash > " in (DOCS / "reference" / "command-line.md").read_text()


def test_the_words_of_evidence_are_all_there(demo_pcap: Path) -> None:
    words = ct.track(demo_pcap).connections.codes("evidence")[1]
    rows = table("concepts/initiator.md", "rung")
    assert {word for row in rows for word in re.findall(r"`(\w+)`", row[1])} == set(words)


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    """docs/hooks.py, which is no package's."""
    spec = importlib.util.spec_from_file_location("docs_hooks", DOCS / "hooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("html", "outside"),
    [
        ('<script src="https://cdn.example/x.js"></script>', ["https://cdn.example/x.js"]),
        ('<img src="//cdn.example/x.png">', ["//cdn.example/x.png"]),
        ('<link rel="stylesheet" href="HTTP://fonts.example/css">', ["HTTP://fonts.example/css"]),
        ('<link rel="preconnect" href="https://fonts.example">', ["https://fonts.example"]),
        ("<style>@import url(https://a.example/b.css)</style>", ["https://a.example/b.css"]),
        ('<p style="background: url(https://a.example/b.png)">', ["https://a.example/b.png"]),
        ('<a data-md-component="source" href="x">', ['data-md-component="source"']),
        ('<a href="https://example.org">read</a><link rel="canonical" href="https://example.org">', []),
        (
            '<script src="../assets/x.js"></script><img src="data:image/png;base64,AA"><code>https://a.example</code>',
            [],
        ),
    ],
)
def test_what_a_page_asks_of_others_is_seen(hooks: ModuleType, html: str, outside: list[str]) -> None:
    assert hooks.outside_in_html(html) == outside


def test_what_a_style_asks_of_others_is_seen(hooks: ModuleType) -> None:
    css = '@import "https://a.example/a.css"; b { background: url( "//b.example/b.png" ) } c { src: url(c.woff2) }'
    assert hooks.outside_in_css(css) == ["https://a.example/a.css", "//b.example/b.png"]


def test_wide_tables_have_the_head_in_each_cell(hooks: ModuleType) -> None:
    row = "<tr>\n<td>1</td>\n<td></td>\n<td><code>a</code></td>\n</tr>"
    table = (
        f"<table>\n<thead>\n<tr>\n<th>x</th>\n<th><em>y</em> z</th>\n<th>w</th>\n</tr>\n</thead>\n{row}{row}</table>"
    )
    made = hooks.labelled_tables(f"<p>{table}<p>")
    labelled = '<td data-label="x">1</td>\n<td data-label="y z"></td>\n<td data-label="w"><code>a</code></td>'
    assert made.count(labelled) == 2
    assert made.startswith("<p><table data-stacks>")
    narrow = "<table><tr><th>x</th></tr><tr><td>1</td></tr></table>"
    assert hooks.labelled_tables(narrow) == narrow


def test_search_from_disk(tmp_path: Path) -> None:
    """The search of the site, opened as a file in a browser."""
    browser = shutil.which("chromium")
    if browser is None or importlib.util.find_spec("material") is None:
        assert os.environ.get("CI") != "true", "chromium is not installed"
        pytest.skip("chromium or mkdocs-material is not installed")
    site = tmp_path / "site"
    subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", site],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        check=True,
    )
    command = [browser, "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    page = f"{(site / 'index.html').as_uri()}?q=beacon"
    done = subprocess.run(
        [*command, "--enable-logging=stderr", "--virtual-time-budget=10000", "--dump-dom", page],
        capture_output=True,
        text=True,
        timeout=60,
    )
    found = re.search(r'md-search-result__meta">(\d+) matching documents', done.stdout)
    assert found, done.stdout[-2000:]
    assert int(found[1]) > 1
    assert "CONSOLE" not in done.stderr


def test_pictures_are_current(here: Path, tmp_path: Path) -> None:
    """Pictures of README and the pages, as the demo's capture gives them."""
    subprocess.run([sys.executable, DOCS / "pictures.py", "demo.pcap", tmp_path / "made"], check=True, cwd=here)
    made = {path.name: path.read_text() for path in (tmp_path / "made").iterdir()}
    assert made == {path.name: path.read_text() for path in (DOCS / "pictures").iterdir()}, "python docs/pictures.py"
    pages = "".join(path.read_text() for path in [ROOT / "README.md", *PAGES])
    assert all(f"pictures/{name}" in pages for name in ("matrix.svg", "servers.svg"))
