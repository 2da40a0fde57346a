"""Exceptions and warnings. A missing file is Python's own `FileNotFoundError`."""

from __future__ import annotations

from conntrack_py.text import printable


class ConntrackError(Exception):
    """Base class of all exceptions of conntrack_py."""

    # The module that users import it from, so that tracebacks show the name they catch it by.
    __module__ = "conntrack_py"


class CaptureError(ConntrackError, ValueError):
    """A capture cannot be read: not a capture, a link type without a decoder, or damage where `strict` is set.

    Attributes:
        path: The file as it was named by the caller (`-` is standard input), or None where no file is to blame.
        offset: Byte offset in the uncompressed file, or None where it is not known.
    """

    __module__ = "conntrack_py"

    def __init__(self, message: str, path: str | None = None, offset: int | None = None) -> None:
        """Store the message, which may name a file of any name, and the place it names."""
        super().__init__(printable(message))
        self.path = path
        self.offset = offset

    def __reduce__(self) -> tuple[type[CaptureError], tuple[str, str | None, int | None]]:
        """Pickle the place together with the message."""
        return type(self), (str(self), self.path, self.offset)


class FlowError(ConntrackError, ValueError):
    """A flow log cannot be read: no kind that is known here, fields that are missing, or damage.

    Attributes:
        path: The file as it was named by the caller (`-` is standard input), or None where no file is to blame.
    """

    __module__ = "conntrack_py"

    def __init__(self, message: str, path: str | None = None) -> None:
        """Store the message, which may name a file of any name, and the file."""
        super().__init__(printable(message))
        self.path = path

    def __reduce__(self) -> tuple[type[FlowError], tuple[str, str | None]]:
        """Pickle the file together with the message."""
        return type(self), (str(self), self.path)


class IdleError(Exception):
    """A file object of the library has no data yet: the reading goes on at the next call. No user gets it."""


class ConfigError(ConntrackError, ValueError):
    """A configuration has an unknown key or a bad value; the message names the key and what was expected."""

    __module__ = "conntrack_py"


class PolicyError(ConntrackError, ValueError):
    """A policy cannot be read or applied."""

    __module__ = "conntrack_py"


class WhereError(ConntrackError, ValueError):
    """A condition on connections cannot be read; the message has the place and what was expected."""

    __module__ = "conntrack_py"


class CheckpointError(ConntrackError, ValueError):
    """A file is no checkpoint, is damaged or has another version; the message names the file."""

    __module__ = "conntrack_py"


class FlowWarning(UserWarning):
    """Part of a flow log was not read, or what the log leaves out changes what its connections say."""

    __module__ = "conntrack_py"


class CaptureWarning(UserWarning):
    """Part of a capture was lost: damage was skipped, or packets could not be decoded."""

    __module__ = "conntrack_py"
