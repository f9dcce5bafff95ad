"""A problem set as a user names it: where it lies, and how it is to be read."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from polaris_data.problems.reading import iterate_problems
from polaris_data.problems.rows import count_rows, fingerprint
from polaris_data.records import Problem


@dataclass(frozen=True, slots=True)
class Source:
    """What `read_problems` is told of a problem set; it can be read again and again."""

    name: str
    """A file, a folder or Hub id that ``datasets`` can load, or ``synthetic``."""

    limit: int | None = None
    """Take the first so many rows."""

    skip_invalid: bool = False
    """Set rows that cannot be used aside with a warning, rather than refuse the set."""

    split: str = "train"
    """Of a folder or Hub data set."""

    revision: str | None = None
    """Commit, branch or tag of a Hub data set."""

    @property
    def label(self) -> str:
        """A short name: that of a file without its ending."""
        return Path(self.name).stem if Path(self.name).is_file() else Path(self.name).name.replace(":", "-")

    def iterate(self) -> Iterator[Problem]:
        """Yield the problems one at a time."""
        return iterate_problems(
            self.name,
            limit=self.limit,
            split=self.split,
            revision=self.revision,
            on_invalid="skip" if self.skip_invalid else "error",
        )

    def read(self) -> list[Problem]:
        """Return all problems."""
        return list(self.iterate())

    def count(self) -> int | None:
        """Return about how many problems there are, for a progress bar; ``None`` if nobody knows."""
        return self.limit or count_rows(self.name)

    def fingerprint(self) -> dict[str, str | None]:
        """Return what tells the set from a later version of itself."""
        return fingerprint(self.name, split=self.split, revision=self.revision)
