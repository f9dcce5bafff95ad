"""A part of a problem set held out from training: chosen by a hash, and no problem of it in other words in the rest.

Near-duplicates stay on one side: a cluster, as `polaris_data.duplicates.dedup.find_duplicates` finds it, is decided as
one. Its place from 0 to 1 is the hash of one of its questions, whatever their order and whatever else is in the set:
of the one with the smallest digest, so that a large cluster is held out no more often than a small one.

- A share holds out every cluster whose place is below it. Added rows move no other problem, unless they join a cluster.
- A number holds out the first clusters by their place, until it is reached. Added rows may push the last of them back
  into training, but never take a problem out of it.
"""

import hashlib
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from polaris_data.duplicates.dedup import stream_families
from polaris_data.errors import ProblemFileError, SettingError
from polaris_data.files.journal import check_output, claim_output, whole_text
from polaris_data.files.lock import locked_output
from polaris_data.files.parallel import num_usable_processors
from polaris_data.files.progress import track
from polaris_data.problems.reading import to_json_line
from polaris_data.problems.source import Source
from polaris_data.records import Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitCounts:
    """How a set was divided."""

    num_train: int
    num_held_out: int
    num_clusters: int
    """Clusters of near-duplicates that were kept together."""


def split_problems(
    source: Source, out: Path, *, held_out: int | float, seed: int = 0, num_processes: int | None = None
) -> SplitCounts:
    """Divide a problem set into ``train.jsonl`` and ``held-out.jsonl``, in the order of the set.

    Args:
        source: The set; read three times.
        out: Folder to write.
        held_out: About how many problems (a whole number) or which share of them (between 0 and 1).
        seed: Another one gives another division.
        num_processes: ``None`` is one a processor.

    Raises:
        SettingError: If the number is below 1, or the share not between 0 and 1.
        ProblemFileError: If either side would be empty.
        OtherRunError: If the folder belongs to a run with other settings, or another process writes it.
    """
    settings = {
        "command": "polaris-data split",
        "problems": source.fingerprint(),
        "limit": source.limit,
        "skip_invalid": source.skip_invalid,
        "held_out": held_out,
        "seed": seed,
    }
    paths = {False: out / "train.jsonl", True: out / "held-out.jsonl"}
    with locked_output(paths[False]):
        check_output(paths[False], settings, beside=[paths[True]])
        chosen, num_clusters = _choose(
            source.iterate,
            held_out=held_out,
            seed=seed,
            num_processes=num_processes or num_usable_processors(),
            total=source.count(),
        )
        counts = {False: 0, True: 0}
        with ExitStack() as stack:
            files = {side: stack.enter_context(whole_text(path)) for side, path in paths.items()}
            for problem in source.iterate():
                side = problem.problem_id in chosen
                counts[side] += 1
                files[side].write(to_json_line(problem))
            claim_output(paths[False], settings)
    return SplitCounts(num_train=counts[False], num_held_out=counts[True], num_clusters=num_clusters)


def choose_held_out(
    problems: Iterable[Problem], *, held_out: int | float, seed: int = 0, num_processes: int = 1
) -> set[str]:
    """Return the ids of the problems that `split_problems` holds out.

    Args:
        problems: With distinct ids, in any order.
        held_out: As there.
        seed: As there.
        num_processes: More than 1 need the ``if __name__ == "__main__"`` guard in a script.
    """
    problems = list(problems)
    return _choose(lambda: problems, held_out=held_out, seed=seed, num_processes=num_processes, total=len(problems))[0]


def parse_held_out(text: str) -> int | float:
    """Read a number of problems (``500``) or a share of them (``0.1``).

    Raises:
        SettingError: If it is neither.
    """
    try:
        held_out = int(text) if text.strip().lstrip("+-").isdecimal() else float(text)
    except ValueError:
        raise SettingError(f"--held-out is {text!r}; give a number of problems, or a share between 0 and 1") from None
    return _checked(held_out)


def _checked(held_out: int | float) -> int | float:
    if isinstance(held_out, int) and held_out < 1:
        raise SettingError(f"--held-out is {held_out}; give 1 problem or more, or a share between 0 and 1")
    if isinstance(held_out, float) and not 0 < held_out < 1:
        raise SettingError(f"--held-out is {held_out}; give a share between 0 and 1, or a whole number of problems")
    return held_out


def _choose(
    read: Callable[[], Iterable[Problem]], *, held_out: int | float, seed: int, num_processes: int, total: int | None
) -> tuple[set[str], int]:
    """Return the ids of what is held out, and how many clusters there are."""
    _checked(held_out)
    digests = {
        problem.problem_id: hashlib.sha256(problem.question.encode()).digest()[:8]
        for problem in track(read(), total=total, label="reading problems")
    }
    if held_out >= len(digests):
        raise ProblemFileError(
            f"--held-out is {held_out}, of {len(digests):,} problems: nothing would be left to train on; hold out fewer"
        )
    groups = stream_families(read, num_processes=num_processes, total=total)
    num_families = len(groups)
    joined = {problem_id for group in groups for problem_id in group}
    groups += [[problem_id] for problem_id in digests if problem_id not in joined]
    chosen: set[str] = set()
    for place, group in sorted((_place(min(map(digests.__getitem__, group)), seed=seed), group) for group in groups):
        if len(chosen) >= held_out if isinstance(held_out, int) else place >= held_out:
            break
        chosen.update(group)
    if not chosen:
        raise ProblemFileError(
            f"--held-out {held_out} takes none of {len(digests):,} problems; give a larger share, or a number"
        )
    if len(chosen) == len(digests):
        raise ProblemFileError(
            f"--held-out {held_out} takes all {len(digests):,} problems, which near-duplicates join; hold out fewer"
        )
    return chosen, num_families


def _place(digest: bytes, *, seed: int) -> float:
    """Return a number from 0 to 1 that stands for a question."""
    return int.from_bytes(hashlib.sha256(f"{seed}:".encode() + digest).digest()[:8]) / 2**64
