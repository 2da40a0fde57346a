"""The command line: what it prints, where, and with which status."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
from click.testing import CliRunner

import conntrack_py as ct
from conntrack_py import text
from conntrack_py.cli import cli
from make_trace import write_trace
from support.packets import ACK, evenly, pcap_bytes, tcp
from support.program import COMMAND, ROOT, interrupted, run, terminal, without_bounds


def failed(done: subprocess.CompletedProcess[bytes]) -> str:
    """The one line of a run that ended with status 2."""
    assert done.returncode == 2
    assert done.stdout == b""
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("conntrack-py: ")
    return line.removeprefix("conntrack-py: ")


def test_csv_in_a_pipe(demo_pcap: Path) -> None:
    done = run("track", demo_pcap)
    assert (done.returncode, done.stderr) == (0, b"")
    lines = list(csv.DictReader(io.StringIO(done.stdout.decode())))
    assert len(lines) == len(ct.track(demo_pcap).connections)
    assert {line["direction"] for line in lines} == {"egress", "ingress", "internal", "multicast"}


def test_a_table_on_a_terminal(demo_pcap: Path) -> None:
    for columns in (80, 100, 120, 160):
        lines = terminal("track", demo_pcap, columns=columns).splitlines()
        assert len(lines) == 18
        assert max(map(len, lines)) <= columns
        assert lines[0].split()[0] == "time"
        assert ("evidence" in lines[0]) == (columns == 160)
    assert "10.0.5.23:51514" in terminal("track", demo_pcap, columns=100)


def test_a_long_table_is_cut(demo_pcap: Path) -> None:
    assert "... and 14 more of 17 connections; --limit 0 shows all" in terminal("track", demo_pcap, "--limit", "3")
    assert len(terminal("track", demo_pcap, "--limit", "0").splitlines()) == 18


def test_ipv6_is_not_markup() -> None:
    """rich would show `:100:` in an address as an emoji, and take `[fe80::1]` for a style."""
    ip = bytes.fromhex(
        "60000000000811ff fe80 0000 0000 0000 0000 0000 0000 0001 20010db8 0000 0214 0100 0000 0000 0002"
    )
    frame = bytes(12) + b"\x86\xdd" + ip + bytes.fromhex("0400 0035 0008 0000")
    done = run("track", "-f", "table", "-", stdin=pcap_bytes([(0.0, frame)]), COLUMNS="160")
    assert "[fe80::1]:1024" in done.stdout.decode()
    assert "2001:db8:0:214:100::2" in done.stdout.decode()


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "arrow", "parquet"])
def test_output_by_suffix(demo_pcap: Path, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out.{suffix}"
    assert run("track", demo_pcap, "-o", path).stdout == b""
    read = {"csv": pl.read_csv, "jsonl": pl.read_ndjson, "arrow": pl.read_ipc, "parquet": pl.read_parquet}[suffix]
    assert len(read(path)) == 17  # type: ignore[operator]
    assert os.listdir(tmp_path) == [path.name]


def test_binary_in_a_pipe(demo_pcap: Path) -> None:
    assert pa.ipc.open_file(run("track", "-f", "arrow", demo_pcap).stdout).read_all().num_rows == 17
    assert len(pl.read_parquet(run("track", "-f", "parquet", "-o", "-", demo_pcap).stdout)) == 17


def test_table_to_a_file(demo_pcap: Path, tmp_path: Path) -> None:
    run("track", "-f", "table", "-o", tmp_path / "out.txt", demo_pcap)
    assert len((tmp_path / "out.txt").read_text().splitlines()) == 18


def test_standard_input(demo_pcap: Path) -> None:
    assert run("track", "--no-stream", "-", stdin=demo_pcap.read_bytes()).stdout == run("track", demo_pcap).stdout


def test_options_reach_the_tracker(demo_pcap: Path, tmp_path: Path) -> None:
    config = tmp_path / "c.toml"
    config.write_text('local = ["203.0.113.0/24"]\nstrict = true')
    for options, ingress in (
        (["--local", "203.0.113.0/24"], 6),
        (["--local", "203.0.113.0/25,198.51.100.0/24"], 6),
        (["--local", "203.0.113.80", "--local", "203.0.113.66"], 6),
        (["--config", str(config)], 6),
        (["--config", str(config), "--local", "10.0.0.0/8"], 5),
        (["--profile", "linux", "--threads", "2", "--tunnels", "both", "--strict", "--no-progress"], 5),
    ):
        lines = csv.DictReader(io.StringIO(run("track", demo_pcap, *options).stdout.decode()))
        assert sum(line["direction"] == "ingress" for line in lines) == ingress, options


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["track", "none.pcap"], "none.pcap: No such file or directory"),
        (["track", "none*.pcap"], "none*.pcap: no file matches this pattern"),
        (["track", "."], ".: Is a directory"),
        (["track", "notes.txt"], "notes.txt: offset 0: found "),
        (["track"], "Missing argument 'FILE...'. See 'conntrack-py track --help'."),
        (["trick"], "No such command 'trick'"),
        (["track", "--frmat", "csv", "x"], "No such option"),
        (["track", "-", "-o", "x.doc"], "x.doc: its suffix is .doc: give a format"),
        (["track", "-", "-o", "x.csv", "--limit", "3"], "--limit is for tables; this is csv."),
        (["track", "-", "--local", "10.0.0/8"], 'local: found "10.0.0/8", expected a network'),
        (["track", "-", "--profile", "zeke"], "profile: found 'zeke', expected one of linux, zeek"),
        (["track", "-", "--profile", ""], "profile: found '', expected one of linux"),
        (["track", "-", "--threads", "-1"], "threads: found -1"),
        (["track", "-", "--threads", "0"], "threads: found 0, expected a whole number from 1 on"),
        (["track", "-", "--local", ""], 'local: found "", expected a network'),
        (["track", "-", "--config", "none.toml"], "none.toml: No such file or directory"),
        (["track", "-", "--config", "bad.toml"], "bad.toml: strikt: unknown key; did you mean strict?"),
        (["summary", "none.pcap"], "none.pcap: No such file or directory"),
    ],
)
def test_errors_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, args: list[str], message: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").write_text("neither a capture nor\na tale")
    (tmp_path / "bad.toml").write_text("strikt = true")
    assert failed(run(*args)).startswith(message)


def test_output_that_cannot_be_written(demo_pcap: Path, tmp_path: Path) -> None:
    path = tmp_path / "none" / "x.csv"
    assert failed(run("track", demo_pcap, "-o", path)) == f"{path}: No such file or directory"


@pytest.mark.parametrize("command", ["track -f csv", "track", "track -f table", "summary", "summary --json"])
def test_closed_standard_output(demo_pcap: Path, command: str) -> None:
    done = subprocess.run(
        ["sh", "-c", f'exec "$@" {command} "$PCAP" >&-', "sh", *COMMAND],
        env=os.environ | {"PCAP": str(demo_pcap)},
        capture_output=True,
        timeout=60,
    )
    assert failed(done) == "standard output is closed"


def test_closed_standard_error(demo_pcap: Path) -> None:
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" 2>&-', "sh", *COMMAND, "track", demo_pcap], capture_output=True, timeout=60
    )
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 18)


def test_full_standard_output(demo_pcap: Path) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run([*COMMAND, "track", demo_pcap], stdout=full, stderr=subprocess.PIPE, timeout=60)
    assert (done.returncode, done.stderr) == (2, b"conntrack-py: standard output: No space left on device\n")


def test_conntrack_listing(demo_pcap: Path) -> None:
    lines = run("track", "-f", "conntrack", demo_pcap).stdout.decode().splitlines()
    assert lines
    assert all(line.startswith("ipv4     2 ") and line.endswith(" mark=0 use=1") for line in lines)


def test_damage(demo_pcap: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.pcap"
    cut.write_bytes(demo_pcap.read_bytes()[:-3])
    done = run("track", cut)
    assert done.returncode == 0
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("warning: part of the capture was not used: 1 file that ends inside a record")
    assert f"first in {cut} at byte" in line
    assert failed(run("track", "--strict", cut)).startswith(f"{cut}: offset ")


def test_a_reader_that_goes_away(demo_pcap: Path) -> None:
    with subprocess.Popen(
        [*COMMAND, "track", *[str(demo_pcap)] * 200], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        # The same file, many times.
        assert [b"second copies" in line for line in process.stderr.read().splitlines()] in ([], [True])
        assert process.wait(30) == -signal.SIGPIPE


def test_interrupt(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with subprocess.Popen([*COMMAND, "track", str(tmp_path / "fifo")], stderr=subprocess.PIPE) as process:
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        assert process.stderr.read().strip() == b""
        assert process.wait(10) == 130


def test_progress_goes_to_standard_error(demo_pcap: Path) -> None:
    quiet = run("track", demo_pcap)
    assert run("track", "--progress", demo_pcap).stdout == quiet.stdout
    assert quiet.stderr == b""


def test_help_and_version() -> None:
    assert run("--version").stdout.decode().strip() == f"conntrack-py {ct.__version__}"
    for args in ([], ["track"], ["summary"]):
        done = run(*args, "--help")
        assert done.returncode == 0
        assert done.stdout.startswith(b"Usage: conntrack-py ")
    bare = run()
    assert bare.returncode == 2
    assert len(bare.stderr.splitlines()) > 5


def test_completion() -> None:
    script = run(_CONNTRACK_PY_COMPLETE="bash_source").stdout
    assert b"_CONNTRACK_PY_COMPLETE=bash_complete" in script
    for shell in ("bash", "zsh", "fish"):
        script = run("completion", shell).stdout
        assert f"_CONNTRACK_PY_COMPLETE={shell}_complete".encode() in script
        checked = shutil.which(shell)
        if checked is not None:
            subprocess.run([checked, "-n"], input=script, check=True)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("conntrack-py track --profile z", {"zeek"}),
        ("conntrack-py track -f par", {"parquet"}),
        ("conntrack-py completion f", {"fish"}),
        ("conntrack-py policy ch", {"check"}),
    ],
)
def test_values_are_completed(words: str, expected: set[str]) -> None:
    last = str(len(words.split()) - 1)
    shown = run(_CONNTRACK_PY_COMPLETE="bash_complete", COMP_WORDS=words, COMP_CWORD=last).stdout.decode()
    assert {line.partition(",")[2] for line in shown.split()} == expected


def test_man_pages_are_current(tmp_path: Path) -> None:
    subprocess.run([sys.executable, ROOT / "docs" / "man.py", tmp_path], check=True)
    kept = ROOT / "rust" / "py" / "data" / "data" / "share" / "man" / "man1"
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        path.name: path.read_text() for path in kept.iterdir()
    }, "the commands changed: make man writes the pages anew"


def test_man_pages_are_sound() -> None:
    man = shutil.which("man")
    if man is None or shutil.which("troff") is None:
        pytest.skip("man and troff are not installed")
    for page in (ROOT / "rust" / "py" / "data" / "data" / "share" / "man" / "man1").iterdir():
        done = subprocess.run([man, "--warnings=mac,reg,el,font,escape", "-l", "-Tutf8", page], capture_output=True)
        said = [line for line in done.stderr.splitlines() if b"cannot adjust line" not in line]
        assert (done.returncode, said) == (0, []), page.name
        assert b"conntrack_py" in done.stdout.splitlines()[0]


def test_ctrl_c_says_what_was_done(demo_pcap: Path) -> None:
    errors = interrupted("summary", "-", stdin=demo_pcap.read_bytes())
    found = re.fullmatch(r"\ninterrupted: 3\.7 MB read, ([0-9,]+) packets; nothing was written\n", errors)
    assert found, errors


def test_label_and_split_say_what_they_wrote(demo_pcap: Path, tmp_path: Path) -> None:
    target = tmp_path / "a.pcapng"
    done = run("label", demo_pcap, "-o", target)
    assert done.stderr.decode() == f"wrote {target}: 4,950 packets, {text.size(target.stat().st_size)}\n"
    done = run("split", demo_pcap, "-o", tmp_path / "parts")
    names = sorted(path.name for path in (tmp_path / "parts").iterdir())
    said = done.stderr.decode()
    assert said.startswith(f"wrote {tmp_path / 'parts'}: ")
    assert sorted(re.findall(r"(\w+\.pcapng) \(", said)) == names
    events = [
        json.loads(line) for line in run("--json-log", "split", demo_pcap, "-o", tmp_path / "more").stderr.splitlines()
    ]
    assert sorted(Path(file).name for file in events[-1]["files"]) == names


@pytest.mark.parametrize("name", ["x.pcap", "x.PCAP", "x.cap", "x.pcapng.gz"])
def test_label_writes_pcapng_only(demo_pcap: Path, tmp_path: Path, name: str) -> None:
    done = run("label", demo_pcap, "-o", tmp_path / name)
    assert done.returncode == 2
    assert b"label writes pcapng" in done.stderr
    assert not (tmp_path / name).exists()


def test_config_without_an_option_shows() -> None:
    assert run("config").stdout == run("config", "--show").stdout
    assert run("config").stdout.startswith(b"local = ")


def test_a_capture_in_the_place_of_the_policy(demo_pcap: Path, tmp_path: Path) -> None:
    policy = tmp_path / "p.toml"
    assert run("policy", "suggest", demo_pcap, "-o", policy).returncode == 0
    done = run("policy", "check", demo_pcap, policy)
    assert done.returncode == 2
    assert f"conntrack-py policy check {policy} {demo_pcap}" in done.stderr.decode()
    assert b"where a policy is expected" in run("policy", "lint", demo_pcap).stderr


def test_in_process(demo_pcap: Path) -> None:
    runner = CliRunner()
    assert runner.invoke(cli, ["track", str(demo_pcap)]).exit_code == 0
    assert runner.invoke(cli, ["summary", "none.pcap"]).exit_code == 2


# ---- summary ----


def test_summary(demo_pcap: Path) -> None:
    for columns in (80, 160):
        lines = terminal("summary", demo_pcap, columns=columns).splitlines()
        assert max(map(len, lines)) <= columns
        assert lines[0].startswith("17 connections in 4,950 packets")
        at = lines.index("Local hosts that answer and initiate: 2")
        # The server that calls out is the first to look at.
        words = [word for word in lines[at + 2].split() if word not in ("https", "https-alt")]
        assert words == ["10.0.20.10", "6", *["277", "kB", "443/tcp", "5", "130", "kB", "5", "8443/tcp"]]


def test_summary_of_nothing() -> None:
    done = run("summary", "-", stdin=pcap_bytes([]))
    assert done.stdout.decode().split("\n")[-2] == "No connections."


def test_summary_without_local_ends(demo_pcap: Path) -> None:
    hint = "No connection has a local end. Name your networks: --local CIDR"
    assert hint in terminal("summary", "--local", "192.0.0.0/29", demo_pcap)
    assert hint not in terminal("summary", demo_pcap)


def test_summary_of_services_is_cut(demo_pcap: Path) -> None:
    assert "... and 7 more services; --top shows more" in terminal("summary", "--top", "2", demo_pcap)


def test_summary_json(demo_pcap: Path, tmp_path: Path) -> None:
    config = tmp_path / "c.toml"
    config.write_text('[zones]\noffice = ["10.0.5.0/24"]\nservers = ["10.0.20.0/24"]')
    facts = json.loads(run("summary", "--json", "--config", config, demo_pcap).stdout)
    assert facts["totals"]["connections"] == 17
    assert {word: sums["connections"] for word, sums in facts["directions"].items()} == {
        "egress": 9,
        "ingress": 5,
        "internal": 2,
        "multicast": 1,
    }
    assert {(pair["orig_zone"], pair["resp_zone"]): pair["totals"]["connections"] for pair in facts["zones"]} == {
        ("servers", ""): 6,
        ("", "servers"): 5,
        ("office", ""): 4,
        ("office", "servers"): 2,
    }
    zones = run("summary", "--config", config, demo_pcap).stdout.decode()
    assert "From zone to zone" in zones


def test_unsure_is_marked() -> None:
    """A TCP connection of which nothing says who initiated is the guess that it is, in every place."""
    middle = pcap_bytes(evenly([tcp("10.0.0.5", 51514, "203.0.113.80", 51515, ACK, 100, 900, b"x")]))
    listed = run("track", "-f", "table", "-", stdin=middle).stdout.decode()
    assert "ingress?" in listed or "egress?" in listed
    assert "says who initiated: a guess" in listed
    told = run("summary", "-", stdin=middle).stdout.decode()
    assert "1 (1?)" in told
    assert "10.0.0.5?" in told
    assert "nothing says it" in told


def test_connections_as_they_close(demo_pcap: Path) -> None:
    whole = {row["community_id"] for row in csv.DictReader(io.StringIO(run("track", demo_pcap).stdout.decode()))}
    done = run("track", "--stream", "-", stdin=demo_pcap.read_bytes())
    assert (done.returncode, without_bounds(done.stderr)) == (0, b"")
    rows = list(csv.DictReader(io.StringIO(done.stdout.decode())))
    assert len(rows) == 17
    assert {row["community_id"] for row in rows} == whole
    lines = run("track", "--stream", "-f", "jsonl", demo_pcap).stdout.splitlines()
    assert len([json.loads(line) for line in lines]) == 17
    assert failed(run("track", "--stream", "-f", "table", demo_pcap)).startswith("--stream writes no table")
    assert len(pl.read_parquet(run("track", "--stream", "-f", "parquet", demo_pcap).stdout)) == 17


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stream_that_is_stopped_prints_what_is_open(demo_pcap: Path, number: signal.Signals) -> None:
    command = [*COMMAND, "track", "--stream", "-"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(demo_pcap.read_bytes())
        process.stdin.flush()
        # The names of the columns, and the first connection that has closed.
        assert process.stdout.readline().startswith(b"start,end,proto")
        first = process.stdout.readline()
        process.send_signal(number)
        rest = process.stdout.read().splitlines()
        assert process.wait(20) == 0
        assert len([first, *rest]) == 17


def test_a_stream_stays_small(tmp_path: Path) -> None:
    """Ten times the packets, and the same memory."""
    code = (
        "import resource, sys; from conntrack_py.cli import cli; cli(sys.argv[1:], standalone_mode=False);"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)"
    )
    peaks = []
    for packets in (30_000, 300_000):
        path = tmp_path / f"{packets}.pcap"
        write_trace(path, packets, packets // 20)
        done = subprocess.run(
            [sys.executable, "-c", code, "track", "--stream", "-f", "jsonl", str(path)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            check=True,
        )
        peaks.append(int(done.stderr.split()[-1]))
    assert peaks[1] < 1.5 * peaks[0]
