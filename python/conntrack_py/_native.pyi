"""The compiled half of conntrack_py: the contract between the Rust binding (rust/py) and the Python modules.

Private: use the names of `conntrack_py`. Only the modules that tests/test_layout.py lists import this module.
"""

from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from typing import Any, Final, Literal, Protocol, TypedDict, final

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Buffer as BufferProtocol
from typing_extensions import CapsuleType

__all__ = [
    "EVIDENCE",
    "FLOW_KINDS",
    "FORMATS",
    "LABELS",
    "LABEL_BYTES",
    "LOCAL",
    "NAT_EVIDENCE",
    "PROFILES",
    "PROTOCOLS",
    "REASONS",
    "WORDS",
    "Anonymiser",
    "ArrowBatch",
    "ArrowReader",
    "Batch",
    "Buffer",
    "Capture",
    "Checkpoint",
    "Config",
    "Connections",
    "Facts",
    "Headers",
    "Part",
    "Policy",
    "ShardRows",
    "Tracker",
    "Walk",
    "Writer",
    "__version__",
    "addresses",
    "aggregate",
    "arrow_columns",
    "cell",
    "correlate",
    "default_timeouts",
    "find_start",
    "label",
    "named",
    "range_header",
    "read_flows",
    "recall",
    "replay",
    "reveal",
    "split",
    "toml_lines",
    "track",
    "track_with_names",
    "walk",
    "write_all",
    "write_file",
]

__version__: Final[str]
"""The version of the crate, which is the version of the package."""
EVIDENCE: Final[dict[str, tuple[float, str, str]]]
"""Evidence from the weakest to the strongest → confidence, certainty (`observed`, `inferred`, `unknown`), a phrase."""
FLOW_KINDS: Final[list[str]]
"""The kinds of flow logs."""
FORMATS: Final[dict[str, tuple[list[str], bool, bool]]]
"""File format → its suffixes, it is binary, each row is complete with its line."""
LABELS: Final[list[tuple[str, str, int]]]
"""The fields of a label: name, NumPy's type and offset."""
LABEL_BYTES: Final[int]
"""The size of a label with its padding."""
LOCAL: Final[list[str]]
"""The default of `Config.local`, as CIDR text."""
NAT_EVIDENCE: Final[list[str]]
"""The evidence of a translation, from the weakest to the strongest."""
PROFILES: Final[list[str]]
"""The names of the profiles, `linux` first."""
PROTOCOLS: Final[list[str]]
"""The words of the `proto` column, in the order of the protocols' numbers."""
REASONS: Final[list[str]]
"""The reasons of `Stats.skipped`."""
WORDS: Final[dict[str, list[str]]]
"""Enum name (`CtState`, `CtDir`, `Direction`, `State`) → its words in upper case, in the order of their numbers."""

class _Reader(Protocol):
    def read(self, size: int, /) -> bytes: ...

class _Writer(Protocol):
    def write(self, data: bytes, /) -> object: ...
    def flush(self) -> object: ...

class _Account(TypedDict):
    """Counts of a run, and of records it could not use."""

    packets: int
    bytes: int
    snapped: int
    #: Reason → (how often, file of the first one or "" where it has no place, its byte offset).
    skipped: dict[str, tuple[int, str, int]]
    #: File, reason, offset and packets of each file that was skipped.
    skipped_files: list[tuple[str, str, int | None, int]]
    #: Protocol → frames of it that have no IP; at most 16, and `other`.
    not_ip: dict[str, int]
    #: Reason → bytes of the files that damage cost.
    skipped_bytes: dict[str, int]
    file_bytes: int
    parts: int
    after_close: int
    merged_parts: int
    early_parts: int
    #: File → largest step back in time, nanoseconds.
    unsorted: dict[str, int]
    evicted: int
    #: Bound → connections, or fragmented datagrams, that it evicted.
    evicted_by: dict[str, int]
    connections: int
    peak_connections: int
    #: Capture times in nanoseconds since 1970 UTC.
    first: int | None
    last: int | None
    #: What the capture is worth, by the names of `conntrack_py.Quality`.
    quality: dict[str, int]

@final
class Buffer(BufferProtocol):
    """Read-only memory of the Rust side, offered through the buffer protocol: `numpy.frombuffer` copies nothing."""

    def __len__(self) -> int:
        """Bytes."""

@final
class Config:
    """A checked configuration; `conntrack_py.Config` says what the keys mean.

    Raises:
        ConfigError: A network, profile, timeout or tunnel mode is refused.
    """

    def __new__(cls, keys: Mapping[str, object]) -> Config: ...

@final
class Connections:
    """Finished connections, one row each, in the order of their first packets; immutable."""

    def __len__(self) -> int:
        """Rows."""

    def names(self) -> list[str]:
        """The names of the columns, in order."""

    @staticmethod
    def all_names() -> list[str]:
        """The names of all columns that a table may have, in order."""

    def slice(self, start: int, stop: int) -> Connections:
        """Rows `start` to `stop`, as far as there are any; columns that are in memory are shared."""

    def choose(self, places: NDArray[np.uint64]) -> Connections:
        """The rows at these indices, in their order.

        Raises:
            IndexError: An index is not below `len(self)`.
        """

    def pick(self, names: list[str]) -> Connections:
        """The table with these columns, in this order.

        Raises:
            KeyError: There is no such column.
            ValueError: A column is listed twice.
        """

    def ids(self) -> Buffer:
        """Numbers of the connections in the order of first packets, u8 each: what `related_to` names."""

    def equals(self, other: Connections) -> bool:
        """True for the same columns with the same values in every row."""

    def save(self) -> Buffer:
        """The table as bytes, for `restore` of the same release."""

    @staticmethod
    def restore(data: bytes) -> Connections:
        """A table of `save`.

        Raises:
            ValueError: The bytes are damaged, or those of another release.
        """

    @staticmethod
    def dtype(name: str) -> str | None:
        """NumPy's dtype for `numbers(name)`; None for a column of addresses or free text.

        Raises:
            KeyError: There is no such column.
        """

    def numbers(self, name: str) -> Buffer:
        """The values of a column as memory of `dtype(name)`, `len(self)` of them.

        -1 stands for a missing value. A column of words gives their numbers, to be looked up in `words(name)`. The
        memory is made at the first call and shared by all.

        Raises:
            KeyError: There is no such column.
            ValueError: The column holds addresses or free text.
        """

    def hosts(self) -> tuple[Buffer, Buffer, list[str]]:
        """The numbers of the originators and of the responders, and the address of each number.

        Originators are numbered in the order of their first rows, then the hosts that are responders alone.
        """

    def words(self, name: str) -> list[str] | None:
        """The words behind the numbers of a column of words; None for a column that is not one.

        Raises:
            KeyError: There is no such column.
        """

    def places(self, end: int) -> Buffer:
        """Two bytes a row about the address of an end, 0 being the originator and 1 the responder.

        The first is 1 where it is in a local network, the second where it is a multicast or broadcast address.

        Raises:
            ValueError: There is no such end.
        """

    def unknown(self, name: str, start: int, stop: int) -> Buffer | None:
        """Rows `start` to `stop` of a column: 1 where the source does not know the value; None where it knows all.

        Raises:
            KeyError: There is no such column.
        """

    def texts(self, name: str, start: int = 0, stop: int | None = None) -> list[str | None]:
        """Rows `start` to `stop` of a column of addresses or free text; equal addresses share one string.

        None stands for a text that the source does not know.

        Raises:
            KeyError: There is no such column.
            ValueError: The column holds numbers.
        """

    def __arrow_c_schema__(self) -> CapsuleType:
        """The Arrow schema, a capsule named `arrow_schema`."""

    def __arrow_c_stream__(self, requested_schema: object = None) -> CapsuleType:
        """The table as an Arrow stream, a capsule named `arrow_array_stream`. `requested_schema` is not followed."""

    def write(self, target: str | PathLike[str] | _Writer, format: str, by: str | None = None) -> None:
        """Write the table as `csv`, `jsonl`, `arrow`, `parquet`, `conntrack`, `zeek`, `ipfix` or `ecs`.

        A file or directory (`by`: `direction` or `hour`) appears under its name when it is complete; a file object gets
        `write` and `flush` calls.

        Raises:
            ValueError: There is no such format or `by`.
            FileExistsError: The directory has something in it.
            OSError: The system refused.
        """

@final
class Writer:
    """Writes tables, one behind another; what is not closed leaves nothing.

    RuntimeError: another thread is at it. ValueError: it is closed.
    """

    def __new__(
        cls,
        target: str | PathLike[str] | _Writer,
        format: str,
        by: str | None = None,
        grow: int | None = None,
        parts: tuple[int | None, int | None] | None = None,
    ) -> Writer:
        """Open a path, a directory or a binary file object; the errors are those of `Connections.write`.

        `grow`: append lines to a file that exists, behind so many bytes. `parts`: files one after another, each of at
        most about so many rows and bytes; they have their names once they are complete and published.
        """

    def write(self, table: Connections) -> None:
        """Write a table, which has the zones of the first one (ValueError). After an error the writer is closed."""

    def close(self) -> None:
        """Complete the file or directory, which has its name then."""

    def end_parts(self, kept: int | None = None) -> None:
        """Complete all parts but that of a partition (hours since 1970)."""

    def waiting_parts(self) -> int:
        """Number of complete parts without their name."""

    def publish_parts(self) -> list[PathLike[str]]:
        """Give complete parts their names."""

    def marks(self) -> list[tuple[PathLike[str], int]]:
        """Path and length on the disk of each part without its name."""

    def recover(self, marks: Sequence[tuple[str, int]] | None = None) -> list[tuple[PathLike[str], str]]:
        """Complete, remove or keep what a killed run has left; each file with what became of it."""

    def discard(self) -> None:
        """Take away what was written, and close."""

    def is_open(self) -> bool:
        """True until the writer is closed or discarded."""

@final
class Batch:
    """Records as they were captured; immutable."""

    def __len__(self) -> int:
        """Records."""

    @staticmethod
    def from_frames(
        data: NDArray[np.uint8],
        ends: NDArray[np.uint64],
        timestamps: NDArray[np.int64],
        lengths: NDArray[np.uint32],
        linktype: int,
    ) -> Batch:
        """Frames that lie one behind another.

        Args:
            data: Their bytes, u8.
            ends: Where each of them ends, u64.
            timestamps: Capture times in nanoseconds since 1970 UTC, i64.
            lengths: Lengths on the wire, u32; at least what is captured counts.
            linktype: The LINKTYPE_ number of all of them.

        Raises:
            ValueError: Frames overlap or go beyond the data, there is too much of it, or not as many of each.
        """

    @staticmethod
    def from_columns(columns: dict[str, object], lacks_payloads: bool, lacks_numbers: bool) -> Batch:
        """Packets of a table: arrays by name, as `numbers` and `pieces` give them, `src` and `dst` also as u4 (IPv4).

        Columns beside `timestamp`, `src` and `dst` may be missing. `lacks_payloads`: nobody knows what was in payloads;
        `lacks_numbers`: nor TCP's sequence numbers, windows and options.

        Raises:
            ValueError: The packet of a row cannot be, or there is too much of it; the message names the column.
        """

    @staticmethod
    def from_block(block: memoryview, linktype: int | None, ring: int) -> Batch:
        """Packets of a block of a packet socket's receive ring (TPACKET_V3), copied.

        Args:
            block: The bytes of the block, which the kernel has handed over.
            linktype: The LINKTYPE_ number of its packets; None: cooked ones, which get LINUX_SLL2 headers.
            ring: The number of the ring, for `merged`.
        """

    @staticmethod
    def merged(batches: list[Batch], until: int) -> tuple[Batch, Batch]:
        """Packets of several rings by time: those up to `until` (nanoseconds since 1970 UTC), and the rest.

        Raises:
            ValueError: There are 4 GiB or more.
        """

    def lacks(self) -> tuple[bool, bool]:
        """Flags: payloads are lacking; TCP sequence numbers are lacking."""

    def numbers(self) -> dict[str, Buffer]:
        """The columns of numbers that are not lacking, memory by name.

        `timestamp` i8 (nanoseconds since 1970 UTC), `src` and `dst` 16 bytes each (IPv4 mapped into IPv6), the others
        of the dtypes that `conntrack_py.io.columns.NUMBERS` lists.
        """

    def pieces(self, name: str) -> tuple[Buffer, Buffer]:
        """`tcp_options` or `payload`: the bytes of all packets, and offsets, i8 each and one more than packets.

        Raises:
            ValueError: There is no such column, or it is lacking.
        """

    def __arrow_c_stream__(self, requested_schema: object = None) -> CapsuleType:
        """The columns as an Arrow stream, a capsule named `arrow_array_stream`. `requested_schema` is not followed."""

    def timestamps(self) -> Buffer:
        """Capture times in nanoseconds since 1970 UTC, i8 each."""

@final
class Capture:
    """Captures, open for reading, their records merged by time.

    Raises:
        CaptureError: A source is no capture.
        OSError: The system refused; a missing file is `FileNotFoundError`.
    """

    def __new__(cls, sources: Sequence[tuple[str, _Reader | str | None]], config: Config) -> Capture: ...
    def next(self, idle: bool = False) -> Batch | None:
        """The next records, or None at the end and once it is closed; with `idle` an empty batch in between.

        An empty batch comes after each tenth of a second in which the source is silent.

        Raises:
            CaptureError: It is damaged and `strict` is set.
            RuntimeError: Another thread reads it at this moment.
            OSError: The system refused.
            KeyboardInterrupt: Ctrl-C.
        """

    def skip(self, records: int) -> None:
        """Drop the next records."""

    def skipped_files(self) -> list[tuple[str, str, int | None, int]]:
        """File, reason, offset and packets of each file skipped so far."""

    def damage(self) -> dict[str, tuple[int, str, int]]:
        """Damage so far: reason → (count, file and offset of the first place)."""

    def lost(self) -> tuple[dict[str, int], int, int, int]:
        """Bytes that damage cost so far by reason, bytes of the files, captures, and those before earlier ones' end."""

    def close(self) -> None:
        """Close the files."""

@final
class Checkpoint:
    """A checkpoint whose sum is right.

    Raises:
        CheckpointError: The file is none, of another version, or damaged.
        OSError: The system refuses.
    """

    def __new__(cls, path: str | PathLike[str]) -> Checkpoint: ...
    @property
    def config(self) -> str:
        """The configuration, as TOML."""

    @property
    def note(self) -> str:
        """The caller's text."""

    def resume(self, config: Config) -> Tracker:
        """The tracker, once.

        Raises:
            CheckpointError: What is in it contradicts itself.
            RuntimeError: It was made before.
        """

@final
class Tracker:
    """Follows connections batch by batch. Any thread may call any method at any time; the GIL is released meanwhile."""

    def __new__(cls, config: Config) -> Tracker: ...
    def process(self, batch: Batch) -> Buffer:
        """Follow a batch, and return the labels of its records as `track` lays them out."""

    def report_closes(self, at_close: bool) -> None:
        """Report connections at their close from now on, or once their entries are gone."""

    def advance(self, timestamp: int) -> None:
        """Advance capture time (nanoseconds) without a packet."""

    def set_bounds(self, connections: int | None, bytes: int | None) -> None:
        """Bound the table anew; None: no bound."""

    def fill(self) -> tuple[tuple[int, int | None], tuple[int, int | None], dict[str, int], int]:
        """Live connections and bytes for them, each with its bound, evictions by bound, and packets without room."""

    def sizes(self) -> list[int]:
        """Packets, connections begun, live connections, and connections to be drained."""

    def drain(self) -> Connections:
        """The connections that have ended since this was asked for last."""

    def finish(self) -> Connections:
        """End the connections that are left, and drain."""

    def note_facts(self) -> None:
        """Keep the facts of packets from now on."""

    def flows(self, all: bool) -> ArrowBatch:
        """The connections that have ended, with facts; `all`: end those that are left before."""

    def snapshot(self) -> Connections:
        """The live connections, without waiting for `process` or making it wait."""

    def account(self, capture: Capture | None) -> _Account:
        """Counts so far, with the damage of this capture.

        Raises:
            CaptureError: A link type has no decoder.
            RuntimeError: Another thread reads the capture at this moment.
        """

    def count_begun(self) -> None:
        """Count connections as they begin, from now on."""

    def begun(self) -> list[tuple[str, str, int]]:
        """Connections begun since `count_begun`: direction, evidence and number."""

    def table_bytes(self) -> int:
        """Bytes of memory that the live connections take."""

    def save(self, path: str | PathLike[str], config: str, note: str) -> None:
        """Write a checkpoint with this configuration, TOML, and a text in it: whole, or not at all.

        Raises:
            OSError: The system refuses.
        """

    def lookup(self, src: tuple[str, int], dst: tuple[str, int], proto: str, vlan: int | None) -> Connections | None:
        """The live connection between two ends as a table of one row, in the same way.

        Raises:
            ValueError: An address or protocol is none, or the protocol has no ports.
        """

@final
class Anonymiser:
    """Prefix-preserving names for addresses, by a key of 32 bytes."""

    def __new__(cls, key: bytes) -> Anonymiser: ...
    def address(self, address: str) -> str:
        """The name of an address. ValueError: it is none."""

    def network(self, network: str) -> str:
        """The name of a network. ValueError: it is none."""

    def table(self, connections: Connections) -> Connections:
        """The table with names for addresses."""

@final
class ArrowBatch:
    """An Arrow record batch, offered through the Arrow PyCapsule interface."""

    def __len__(self) -> int: ...
    def __arrow_c_schema__(self) -> CapsuleType: ...
    def __arrow_c_array__(self, requested_schema: object = None) -> tuple[CapsuleType, CapsuleType]: ...
    def __arrow_c_stream__(self, requested_schema: object = None) -> CapsuleType: ...

@final
class ArrowReader:
    """The batches of anything with `__arrow_c_stream__`; `next` gives None at the end."""

    def __new__(cls, source: object) -> ArrowReader: ...
    def next(self) -> ArrowBatch | None: ...

@final
class Headers:
    """Headers of captures, as `conntrack_py.decode_headers` has them; `next` gives None at the end."""

    def __new__(
        cls,
        sources: Sequence[tuple[str, _Reader | str | None]],
        config: Config,
        file: int,
        shards: int,
        all: bool,
        part: tuple[int, bytes, int | None] | None = None,
    ) -> Headers: ...
    @staticmethod
    def none(all: bool) -> ArrowBatch: ...
    def next(self) -> ArrowBatch | None: ...
    def account(self) -> _Account:
        """The account so far; it knows no connections.

        Raises:
            CaptureError: All packets have a link type without a decoder.
        """

@final
class Part:
    """Tracks the packets of some shards, as `conntrack_py.track_stream` does; each call gives what has ended."""

    def __new__(cls, config: Config, facts: bool) -> Part: ...
    def take(self, headers: object) -> ArrowBatch: ...
    def finish(self, until: int | None) -> ArrowBatch: ...

@final
class Walk:
    """Walk over record headers from a start (offset, head) to the first of some targets (offset, record in front)."""

    FRONT: Final[int]
    WINDOW: Final[int]

    def __new__(
        cls,
        name: str,
        file: _Reader | None,
        start: tuple[int, bytes],
        targets: Sequence[tuple[int, int]],
        first: bytes,
    ) -> Walk: ...
    def step(self) -> tuple[str, int]:
        """Walk on: `more`, `part`, `landed` or `ended`, and the offset."""

@final
class ShardRows:
    """All connections of some shards: `conntrack_py.facts_of` and `conntrack_py.look_back` spend them."""

    def __new__(cls, config: Config) -> ShardRows: ...
    def add(self, flows: object) -> None: ...
    def facts(self) -> Facts: ...
    def look_back(self, facts: Facts) -> list[ArrowBatch]: ...

@final
class Facts:
    """Facts of shards, as `conntrack_py.merge_facts` has them."""

    def __new__(cls) -> Facts: ...
    def add(self, facts: object) -> None: ...
    def settle(self) -> None: ...
    def tables(self) -> list[ArrowBatch]: ...

@final
class Policy:
    """Groups and rules, ready to be asked. Rules are numbered group by group, ingress before egress.

    Raises:
        PolicyError: There are too many rules, or there is no such group, protocol or network.
    """

    def __new__(
        cls,
        groups: Sequence[
            tuple[
                Sequence[str],
                Sequence[tuple[Sequence[int | str], str, Sequence[tuple[int, int]]]],
                Sequence[tuple[Sequence[int | str], str, Sequence[tuple[int, int]]]],
                tuple[bool, bool],
            ]
        ],
        adds_up: bool,
    ) -> Policy:
        """Take groups: members, ingress rules, egress rules, and whether these are open where there is no rule.

        Of several groups of an address all have to allow, or with `adds_up` any.

        A rule is (peers: `any`, networks, or numbers of groups; a protocol or `any`; ranges of ports or types).
        """

    def groups_of(self, address: str) -> list[int]:
        """The groups of an address, by number.

        Raises:
            PolicyError: It is no address.
        """

    def evaluate(self, connections: Connections) -> tuple[Buffer, list[int]]:
        """The verdict on every connection, and how many allowed connections each rule was used for.

        A verdict is 20 bytes: `verdict` u1 at 0, then `egress_rule`, `ingress_rule`, `orig_group` and `resp_group`, i4
        each, at 4.
        """

def aggregate(networks: Sequence[str]) -> list[str]:
    """The fewest networks that hold exactly what these hold, in order, IPv4 first.

    Raises:
        ConfigError: One of them is no network or address.
    """

def addresses(
    name: str, data: NDArray[np.uint8], offsets: NDArray[np.int64], valid: NDArray[np.uint8] | None = None
) -> Buffer:
    """Text addresses as 16 bytes each, IPv4 mapped into IPv6; zeros where `valid` is 0.

    Raises:
        ValueError: One of them is no address; the message begins with `name`.
    """

def arrow_columns(
    source: object, names: list[str]
) -> list[tuple[str, str, Literal["int", "time", "text", "bytes"], Buffer, Buffer | None, Buffer | None]]:
    """Columns of anything with `__arrow_c_stream__` or `__arrow_c_array__`, those of these names that it has.

    Each is name, Arrow type, what it holds, memory (i8 each, or bytes), offsets (i8 each; None for numbers), and a byte
    for each row that is 0 where it is null (None: nowhere).

    Raises:
        ValueError: It is no such thing, it is broken, or a column holds something else.
    """

def range_header(first: bytes) -> bytes | None:
    """The header of a capture by its first bytes; None if it cannot be split."""

def find_start(first: bytes, data: bytes, offset: int) -> tuple[int, bytes, int] | None:
    """Guess the first start in data: its offset, its head, and the offset of the record in front."""

def cell(one: str, other: str) -> int:
    """The cell of two addresses, see `conntrack_py.shard_v1`."""

def default_timeouts(profile: str) -> dict[str, int]:
    """Sysctl name → seconds, as a profile has them.

    Raises:
        ConfigError: There is no such profile.
    """

def track(
    sources: Sequence[tuple[str, _Reader | str | None]],
    config: Config,
    labels: bool,
    progress: Callable[[int, int | None, int], object] | None = None,
) -> tuple[Connections, Buffer | None, _Account]:
    """Track captures from the first packet to the last, several of them merged by time.

    The GIL is released while it works. Signals are looked at about ten times a second, in the main thread.

    Args:
        sources: (name, None) is a file by name, `-` being standard input; (name, file) is a binary file object, with
            the name to use in messages; (name, text) is a file that is not read, with the reason.
        config: The configuration.
        labels: Whether to return labels.
        progress: Called about ten times a second with the bytes read, the bytes in all (None where a source has no
            size) and the packets so far. An exception of it ends the run and comes out.

    Returns:
        The connections; the labels, 16 bytes a packet in capture order (None if not asked for): `connection` i8 at 0,
        `ctstate` u1 at 8, `ctdir` u1 at 9, `reply` bool at 10, `direction` u1 at 11, `state` u1 at 12; the account.

    Raises:
        CaptureError: A source is no capture, has no link type that can be decoded, or is damaged and `strict` is set.
        OSError: The system refused; a missing file is `FileNotFoundError`.
        KeyboardInterrupt: Ctrl-C.
    """

def named(
    sources: Sequence[tuple[str, _Reader | str | None]],
    config: Config,
    progress: Callable[[int, int | None, int], object] | None = None,
) -> tuple[Connections, dict[int, str], _Account]:
    """Track captures on one thread, and read the names that payloads show.

    Args:
        sources: As for `track`.
        config: The configuration.
        progress: As for `track`.

    Returns:
        The connections; row → name: the server name of a TLS handshake, the host of an HTTP request, the question of a
        DNS message or, where a connection shows none, the name under which DNS gave out the responder's address; the
        account.

    Raises:
        CaptureError: As `track` does; so it is with `OSError` and `KeyboardInterrupt`.
    """

def track_with_names(
    sources: Sequence[tuple[str, _Reader | str | None]],
    config: Config,
    labels: bool,
    progress: Callable[[int, int | None, int], object] | None = None,
) -> tuple[Connections, Buffer | None, dict[str, list[tuple[str, str]]], _Account]:
    """Track captures on one thread, and collect the names of responders' addresses.

    Args:
        sources: As for `track`.
        config: The configuration.
        labels: As for `track`.
        progress: As for `track`.

    Returns:
        The connections; the labels; address → names, each with `sni`, `http` or `dns`, the protocol that showed it; the
        account.

    Raises:
        CaptureError: As `track` does; so it is with `OSError` and `KeyboardInterrupt`.
    """

def label(
    sources: Sequence[tuple[str, _Reader | str | None]],
    config: Config,
    target: str | PathLike[str] | _Writer,
    progress: Callable[[int, int | None, int], object] | None = None,
    names: Anonymiser | None = None,
) -> tuple[Connections, _Account, int]:
    """Track captures, read them again, and write each packet as pcapng with its direction bits and a comment.

    `names`: headers alone, with names in place of addresses; the packets that were left out come third.

    Raises:
        CaptureError: As `track` does; so it is with `OSError` and `KeyboardInterrupt`.
        RuntimeError: The capture changed between the first reading and the second.
    """

def split(
    sources: Sequence[tuple[str, _Reader | str | None]],
    config: Config,
    directory: str | PathLike[str],
    progress: Callable[[int, int | None, int], object] | None = None,
    names: Anonymiser | None = None,
) -> tuple[Connections, _Account, list[PathLike[str]], int]:
    """Track captures, read them again, and write a pcapng file for each direction; their paths come third.

    `names`: as for `label`; the packets that were left out come last.

    Raises:
        CaptureError: As `track` does; so it is with `OSError` and `KeyboardInterrupt`.
        RuntimeError: The capture changed between the first reading and the second.
    """

def read_flows(
    sources: Sequence[tuple[str, _Reader | str | None]],
    config: Config,
    kind: str | None = None,
    fields: list[str] | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> tuple[Connections, dict[str, Any]]:
    """Read flow logs.

    Args:
        sources: As for `track`.
        config: The configuration.
        kind: One of `FLOW_KINDS`; None: guessed from the content of each file.
        fields: The fields of a custom format of AWS.
        progress: Called with the bytes read and the records so far.

    Returns:
        The connections, and the fields of `conntrack_py.FlowStats`: a bad record's reason → (how often, file, line or
        offset, beginning of the first).

    Raises:
        FlowError: A file is of no known kind, its format lacks fields, or it is damaged.
        OSError: The system refused.
        ValueError: The kind is none.
    """

def replay(
    sources: Sequence[tuple[str, _Reader | str | None]],
    config: Config,
    policy: Policy,
    fates: bool,
    progress: Callable[[int, int | None, int], object] | None = None,
) -> tuple[Connections, _Account, list[int], dict[int, int], Buffer | None]:
    """Track captures, and send the same packets through a gateway with a policy.

    Args:
        sources: As for `track`.
        config: The configuration.
        policy: The policy.
        fates: Whether to say what becomes of every packet.
        progress: As for `track`.

    Returns:
        The connections as they were; the account; how many packets had each fate; how many packets of a row were
        refused, by row; the fate of every packet, u1 each in capture order (None if not asked for).

    Raises:
        CaptureError: As `track` does; so it is with `OSError` and `KeyboardInterrupt`.
    """

def toml_lines(text: str) -> dict[str, int]:
    """The line, from 1, of every table, element and value of a TOML document, by its path.

    A path is such as `groups.web.ingress[0]`. There are none where the text is no TOML.
    """

def walk(names: Sequence[str], config: Config, depth: Literal["read", "decode", "look_up"]) -> int:
    """Read captures by name without tracking: the bare loops for benchmarks.

    Args:
        names: Captures, as for `track`.
        config: What the decoder does about tunnels and checksums.
        depth: How far: `read` records, `decode` them, or read the ordinary packets among them in brief and `look_up`
            (or insert) their keys in a flow table of which nothing else is used.

    Returns:
        The number of records, of those that gave packets, or of packets that were looked up.

    Raises:
        ConfigError: There is no such depth.
        CaptureError: As for `track`.
        OSError: As for `track`.
    """

def write_all(file: object, data: bytes) -> None:
    """Write all bytes to a binary file object; wait where it would block.

    Raises:
        OSError: It takes no more; with number and name.
    """

def write_file(path: str | PathLike[str], data: bytes) -> None:
    """Write the bytes of a whole file, which has its name once it is complete, and the mode of the one it replaces.

    Raises:
        OSError: The system refused.
    """

class _Pairing(TypedDict):
    """Counts of a correlation."""

    #: Inside, outside.
    ambiguous: list[int]
    contradicted: int
    #: Clock of the outside less that of the inside, nanoseconds; None: unknown.
    offset: int | None
    #: Parts per million.
    drift: float | None
    tolerance: int | None
    samples: int | None

def correlate(
    inside: Sequence[tuple[str, _Reader | str | None]],
    outside: Sequence[tuple[str, _Reader | str | None]],
    config: Config,
    clock: tuple[int, int] | None = None,
    progress: Callable[[int, int | None, int], object] | None = None,
) -> tuple[Connections, _Account, Connections, _Account, list[Buffer], _Pairing]:
    """Track the captures of both sides of a gateway, and pair their connections.

    Args:
        inside: As the sources of `track`.
        outside: As the sources of `track`.
        config: The configuration.
        clock: Clock of the outside less that of the inside, and its tolerance, nanoseconds.
        progress: As for `track`.

    Returns:
        Table and account of each side, the pairs, and counts. The pairs are arrays: rows inside and outside (u4),
        flags (u1: bit 0 a hairpin, bit 1 crossed roles), evidence (u1), bits of evidence (u2).

    Raises:
        CaptureError: As `track` does.
    """

def recall(connections: Connections, memory: Connections, real: bool) -> tuple[Connections, int, int]:
    """Note the translations that a gateway remembers.

    Args:
        connections: The connections.
        memory: The gateway's own table.
        real: True ends take the place of the table's.

    Returns:
        The table, the number of rows with an entry, and of those whose entries time does not tell apart.
    """

def reveal(connections: Connections, least: float) -> Connections:
    """Put the ends of translations in place of those of the table, from a confidence on."""
