"""Results that survive a kill: files that appear whole, settings that claim an output, and records kept one by one.

- A file under its own name is whole: it is written under another one and renamed.
- The settings of a run lie beside its output, which no run with other settings ever overwrites, nor one that finds a
  file without settings.
- A `Journal` keeps its records in ``NAME.partial``; the file gets its name when the run is complete.
"""

import json
import os
import re
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from polaris_data.errors import OtherRunError


@contextmanager
def whole_file(path: Path) -> Generator[Path]:
    """Yield a temporary name; what the block writes there gets its own name at the end, unless the block fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def whole_text(path: Path) -> Generator[TextIO]:
    """Open a text file for writing as `whole_file` does."""
    with whole_file(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        yield file


def write_text(path: Path, text: str | Iterable[str]) -> None:
    """Write a whole file, given as one text or piece by piece, so that no reader sees half of it."""
    with whole_text(path) as file:
        file.writelines([text] if isinstance(text, str) else text)


def write_json(path: Path, value: object) -> None:
    """Write one JSON document, indented, as `write_text` does."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def to_lines(records: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Yield records as JSON lines."""
    return (json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def claim(path: Path, settings: Mapping[str, Any], *, free: Collection[str] = (), output: Path | None = None) -> None:
    """Record the settings of a run, or make sure that the recorded ones are the same.

    Args:
        path: The file of settings beside the run's results.
        settings: Everything that can change the results; must survive a round trip through JSON.
        free: Settings that may change when a run is continued; the new values are recorded.
        output: What the settings claim, named in the error; ``None`` is the folder that ``path`` is in.

    Raises:
        OtherRunError: If the file holds other settings; nothing is overwritten.
    """
    if path.exists():
        old, new = json.loads(path.read_text(encoding="utf-8")), json.loads(json.dumps(settings))
        _refuse_other(output or path.parent, old, new, free)
    write_json(path, settings)


def differences(old: Mapping[str, Any], new: Mapping[str, Any], *, free: Collection[str] = ()) -> str:
    """Say in one line how settings differ, but for those in ``free``; empty if they do not."""
    missing = object()
    changed = [
        key
        for key in sorted(old.keys() | new.keys())
        if key not in free and old.get(key, missing) != new.get(key, missing)
    ]
    return "; ".join(_difference(key, old.get(key), new.get(key)) for key in changed)


def settings_path(out: Path) -> Path:
    """Return where the settings of a result file are: ``NAME.settings.json`` beside it."""
    return out.with_name(f"{out.name}.settings.json")


def recorded_settings(out: Path) -> dict[str, Any]:
    """Return the settings of the run that wrote a file; nothing if there is no record."""
    path = settings_path(out)
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def partial_path(out: Path) -> Path:
    """Return where a `Journal` keeps the records of a run that is under way."""
    return out.with_name(f"{out.name}.partial")


def check_output(out: Path, settings: Mapping[str, Any], *, beside: Iterable[Path] = ()) -> None:
    """Refuse a result file, whole or partial, of a run with other settings or of nobody knows which run.

    Settings without any result are what a failed run left: they keep no other run out.

    Args:
        out: The file.
        settings: Of this run.
        beside: What else the same settings claim.

    Raises:
        OtherRunError: If it is either; nothing is written.
    """
    if settings_path(out).exists():
        if _has_result(out, beside):
            claim(settings_path(out), settings, output=out)
        return
    for path in (out, partial_path(out), *beside):
        if path.exists():
            raise OtherRunError(
                f"{path} exists without {settings_path(out).name} beside it, so it is not known which run wrote "
                "it; choose another --out or remove it"
            )


def claim_output(out: Path, settings: Mapping[str, Any]) -> None:
    """Make a result file this run's own, by writing its settings beside it.

    Raises:
        OtherRunError: If it belongs to another run.
    """
    check_output(out, settings)
    write_json(settings_path(out), settings)


def append_records(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Append JSON lines; once this returns, a kill cannot lose them."""
    with path.open("a", encoding="utf-8") as file:
        file.writelines(to_lines(records))
        file.flush()
        os.fsync(file.fileno())


class Journal:
    """An append-only file of JSON objects that can be continued after a kill.

    Attributes:
        path: The final name of the file.
        records: What earlier runs and this one appended, oldest first.
        finished: Whether the file is complete.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._partial = partial_path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        self.finished = path.exists()
        if self.finished:  # A kill may have come between the renaming and the removal.
            self._partial.unlink(missing_ok=True)
        self.records = _read_whole_lines(path if self.finished else self._partial)

    def append(self, record: Mapping[str, Any]) -> None:
        """Add one record; once this returns, a kill cannot lose it."""
        self.extend([record])

    def extend(self, records: Collection[Mapping[str, Any]]) -> None:
        """Add several records in one go, as `append` does."""
        if self.finished:
            raise ValueError(f"{self.path}: this run is complete")
        append_records(self._partial, records)
        self.records.extend(map(dict, records))

    def replace(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Take other records in place of those that are there, all at once; the file is no longer complete."""
        self.records = [dict(record) for record in records]
        write_text(self._partial, to_lines(self.records))
        self.path.unlink(missing_ok=True)
        self.finished = False

    def finish(self, order: Callable[[dict[str, Any]], Any]) -> None:
        """Sort the records by ``order``, so that the file does not depend on timing, and give it its name."""
        if self.finished:
            return
        self.records.sort(key=order)
        write_text(self.path, to_lines(self.records))
        self._partial.unlink(missing_ok=True)
        self.finished = True


def _has_result(out: Path, beside: Iterable[Path]) -> bool:
    partial = partial_path(out)
    has_records = partial.exists() and b"\n" in partial.read_bytes()
    return has_records or any(path.exists() for path in (out, *beside))


def _refuse_other(output: Path, old: dict[str, Any], new: dict[str, Any], free: Collection[str]) -> None:
    if found := differences(old, new, free=free):
        raise OtherRunError(f"{output} belongs to another run: {found}; choose another --out or remove it")


def _difference(name: str, old: Any, new: Any) -> str:
    """Say how a setting differs; of an input that is known by a hash, only that it does."""
    hashes = [_HASH.fullmatch(value) if isinstance(value, str) else None for value in (old, new)]
    kinds = [found["kind"] for found in hashes if found]
    if len(kinds) == 2 and kinds[0] == kinds[1]:
        return f"{name} has other content now"
    made = " (another version made it in another way)" if len(kinds) == 2 else ""
    return f"{name} was {old!r}, now {new!r}{made}"


_HASH = re.compile(r"(?P<kind>\w+:)?[0-9a-f]{16,64}")


def _read_whole_lines(path: Path) -> list[dict[str, Any]]:
    """Read a journal; a line that a kill cut short is removed from the file."""
    if not path.exists():
        return []
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        with path.open("r+b") as file:
            file.truncate(whole)
    return [json.loads(line) for line in content[:whole].splitlines()]
