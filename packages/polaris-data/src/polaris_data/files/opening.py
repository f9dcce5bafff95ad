"""Text files as they come: compressed with gzip, zstd or bzip2; in UTF-8, UTF-16 or UTF-32, with or without a mark.

Both are told by the first bytes and not by the name, which is often wrong.
"""

import io
import json
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TextIO

from polaris_data.errors import ProblemFileError

COMPRESSED = (".gz", ".zst", ".bz2")
"""Endings that may stand behind that of a format."""

_MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bz2"}


def open_bytes(path: Path) -> BinaryIO:
    """Open a file for reading, decompressed."""
    with path.open("rb") as file:
        start = file.read(4)
    compression = next((name for magic, name in _MAGIC.items() if start.startswith(magic)), None)
    if compression is None:
        return path.open("rb")
    import pyarrow

    return io.BufferedReader(pyarrow.input_stream(str(path), compression=compression))  # pyright: ignore[reportArgumentType]


def open_text(path: Path, *, newline: str | None = None) -> TextIO:
    """Open a file for reading as text, decompressed and decoded; `newline` as for `open`."""
    return io.TextIOWrapper(open_bytes(path), encoding=encoding_of(path), newline=newline)


def encoding_of(path: Path) -> str:
    """Return the encoding of a text file that begins with an ASCII character or a byte order mark."""
    with readable(path), open_bytes(path) as file:
        return json.detect_encoding(file.read(4))


def read_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield the lines that are not empty, in UTF-8, with their numbers from 1.

    A line of a UTF-8 file is not decoded, so that one that is broken spoils no other.
    """
    encoding = encoding_of(path)
    with readable(path):
        if encoding.startswith("utf-8"):
            with open_bytes(path) as file:
                for number, line in enumerate(file, start=1):
                    bare = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
                    if bare.strip():
                        yield number, bare
        else:
            with open_text(path, newline="\n") as text:
                for number, line in enumerate(text, start=1):
                    if line.strip():
                        yield number, line.encode("utf-8", errors="surrogatepass")


@contextmanager
def readable(path: Path) -> Generator[None]:
    """Say in one sentence that a file is damaged or in another encoding.

    Raises:
        ProblemFileError: In place of an error of reading or decoding.
    """
    try:
        yield
    except UnicodeDecodeError as error:
        raise ProblemFileError(f"{path}: not text in UTF-8 or UTF-16 ({error}); save it as UTF-8") from error
    except (OSError, EOFError) as error:
        raise ProblemFileError(f"{path}: cannot be read to its end ({error}); is the copy complete?") from error
