"""Logs of inspect, ``NAME.eval``: zip archives with one JSON document for each sample."""

import io
import json
import re
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from zlib import error as ZlibError

from polaris_data.errors import ProblemFileError
from polaris_data.files.documents import Item, to_item

_ZSTANDARD = 93
"""Method of newer logs, which the standard library reads from Python 3.14 on."""

_SAMPLE = re.compile(r"samples/.*_epoch_\d+(?:/sample)?\.json", re.DOTALL)
"""A sample by its id and number; one that is kept in pieces has them in a folder of that name."""

_LOCAL_HEADER = struct.Struct("<26x2H")
"""In front of each member: the lengths of its name and of what follows that, after 26 bytes of other things."""


def read_samples(path: Path) -> Iterator[Item]:
    """Yield the samples of a log, each with its place ``NAME.eval: samples/1_epoch_1.json``.

    Raises:
        ProblemFileError: If the file is no zip archive, or damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            # A sample that was run again is there twice: the later one counts.
            for name in dict.fromkeys(archive.namelist()):
                if _SAMPLE.fullmatch(name):
                    place = f"{path}: {name}"
                    try:
                        yield to_item(place, json.loads(_content(archive, archive.getinfo(name))))
                    except ValueError as error:
                        yield Item(place, {}, f"not JSON ({error})")
    except (zipfile.BadZipFile, ZlibError, OSError, EOFError, NotImplementedError, RuntimeError) as error:
        raise ProblemFileError(f"{path}: not a readable log of inspect ({error}); is the copy complete?") from error


def _content(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    if member.compress_type != _ZSTANDARD:
        return archive.read(member)
    import pyarrow

    file = archive.fp
    if file is None:
        raise zipfile.BadZipFile("the archive is closed")
    file.seek(member.header_offset)
    header = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
    file.seek(sum(header), io.SEEK_CUR)
    compressed = io.BytesIO(file.read(member.compress_size))
    with pyarrow.input_stream(compressed, compression="zstd") as stream:  # pyright: ignore[reportArgumentType]
        return stream.read()
