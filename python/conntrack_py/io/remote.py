"""Captures that a URL names (`s3://`, `gs://`, `abfs://`, `hdfs://`, `http://`), read piece by piece by fsspec.

fsspec finds the package of the protocol and its credentials. Here a transfer is made as safe as a local file: an error
names the URL and the byte, and an object that ends before its size is an error, not a short capture.
"""

from __future__ import annotations

import errno
import os
import re
from typing import Any

from conntrack_py.exceptions import CaptureError

#: Bytes of a stream that are read at once to reach an offset.
_PASSED = 1 << 20
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.:-]+://")


def is_url(source: str) -> bool:
    """Test whether a source is a URL and no file of that name."""
    return _URL.match(source) is not None and not os.path.lexists(source)


class Remote:
    """A binary file object of a URL, opened by its first read.

    Attributes:
        name: The URL.
    """

    def __init__(self, url: str) -> None:
        """Keep the URL; nothing is asked yet."""
        self.name = url
        self._file: Any = None
        self._at = 0
        self._is_stream = False
        self._total: int | None = None

    def seek(self, offset: int) -> int:
        """Go to a byte of the stored object."""
        try:
            self._opened().seek(offset)
        except Exception as error:
            raise self._failed(error) from error
        self._at = offset
        return offset

    def read(self, size: int) -> bytes:
        """At most `size` bytes, none at the end.

        Raises:
            FileNotFoundError: There is no such object.
            CaptureError: The transfer failed, or ended before the size of the object.
        """
        try:
            data = self._piece(size)
        except Exception as error:
            raise self._failed(error) from error
        self._at += len(data)
        total = self.size
        if not data and size and total is not None and self._at < total:
            reason = (
                f"the transfer ended at byte {self._at} of {total}; read the object again, or copy it and compare sizes"
            )
            raise CaptureError(f"{self.name}: {reason}", self.name, self._at)
        return data

    def _piece(self, size: int) -> bytes:
        try:
            return bytes(self._opened().read(size))
        except ValueError:
            # What fsspec raises where a server of HTTP answers without the range: such an object is read as a stream.
            if self._is_stream or not self.name.startswith(("http://", "https://")):
                raise
        self._is_stream = True
        system, path = _system(self.name)
        self._file = system.open(path, "rb", block_size=0)
        left = self._at
        while left and (passed := self._file.read(min(left, _PASSED))):
            left -= len(passed)
        return bytes(self._file.read(size))

    @property
    def size(self) -> int | None:
        """Size of the stored object in bytes; None where the server does not tell."""
        self._opened()
        return self._total

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._file is not None:
            self._file.close()

    def _opened(self) -> Any:
        if self._file is None:
            system, path = _system(self.name)
            self._file = system.open(path, "rb")
            found = getattr(self._file, "size", None)
            self._total = found if isinstance(found, int) else None
        return self._file

    def _failed(self, error: Exception) -> Exception:
        if isinstance(error, FileNotFoundError):
            return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self.name)
        if isinstance(error, CaptureError):
            return error
        reason = str(error) or type(error).__name__
        return CaptureError(f"{self.name}: reading failed at byte {self._at}: {reason}", self.name, self._at)


def found(url: str, recursive: bool) -> list[str]:
    """The URLs that one names: itself, what matches its `*`, or with `recursive` all objects below it, sorted.

    Raises:
        FileNotFoundError: No object matches.
        CaptureError: The protocol is unknown, its package is missing, or the listing failed.
    """
    if "*" not in url and not recursive:
        return [url]
    system, path = _system(url)
    try:
        matches = system.glob(path) if "*" in url else system.find(path)
        names = sorted(str(system.unstrip_protocol(match)) for match in matches if not system.isdir(match))
    except Exception as error:
        raise CaptureError(f"{url}: listing failed: {error or type(error).__name__}", url) from error
    if not names:
        raise FileNotFoundError(errno.ENOENT, "no object matches this URL", url)
    return names


def size_of(url: str) -> int | None:
    """Size of the stored object in bytes; None where the server does not tell."""
    remote = Remote(url)
    try:
        return remote.size
    except Exception as error:
        raise remote._failed(error) from error
    finally:
        remote.close()


def _system(url: str) -> tuple[Any, str]:
    """The file system of a URL, and the path there."""
    try:
        import fsspec
    except ImportError as error:
        raise CaptureError(f'{url}: a URL needs fsspec: pip install "conntrack_py[remote]"', url) from error
    try:
        system, path = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise CaptureError(f"{url}: {error}", url) from error
    return system, str(path)
