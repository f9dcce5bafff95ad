"""``scores.json``: the scores of a command, with how they were made."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from polaris_data.files import write_json

from polaris_eval.errors import ScoresFileError
from polaris_eval.records import BudgetPoint, Estimate, Evaluation, LengthGroup, Lengths, ProblemResult, Score

NAME = "scores.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """What ``scores.json`` says."""

    path: Path
    """The file or folder, as given."""

    model: str
    """As its user named it."""

    protocol: Mapping[str, Any]
    """Everything that can change a score; empty where it was not recorded."""

    evaluations: Sequence[Evaluation]
    """One for each benchmark."""

    @property
    def folder(self) -> Path:
        """Where the completions are, each benchmark's in a folder of its own."""
        return self.path if self.path.is_dir() else self.path.parent


def write_scores(
    out: Path,
    evaluations: Sequence[Evaluation],
    *,
    model: str,
    protocol: Mapping[str, Any],
    protocol_hash: str | None = None,
) -> None:
    """Write ``out/scores.json``; the fingerprint of the protocol stands in it where there is one."""
    fingerprint = {} if protocol_hash is None else {"protocol_hash": protocol_hash}
    content = {"model": model, **fingerprint, "protocol": protocol}
    write_json(out / NAME, {**content, "evaluations": [asdict(evaluation) for evaluation in evaluations]})


def read_scores(path: Path) -> Scores:
    """Read ``scores.json``, given itself or its folder.

    Raises:
        ScoresFileError: If there is none, or it cannot be read.
    """
    content = _read_object(path / NAME if path.is_dir() else path)
    try:
        evaluations = [_to_evaluation(evaluation) for evaluation in content["evaluations"]]
    except (KeyError, TypeError) as error:
        raise ScoresFileError(
            f"{path}: not what this version writes ({type(error).__name__}: {error}); repeat the command that wrote "
            "it, which samples nothing anew"
        ) from None
    return Scores(
        path=path,
        model=str(content.get("model")),
        protocol=content.get("protocol") or {},
        evaluations=evaluations,
    )


def read_evaluations(path: Path) -> list[Evaluation]:
    """Return the evaluations of a ``scores.json``, given itself or its folder.

    Raises:
        ScoresFileError: If they cannot be read.
    """
    return list(read_scores(path).evaluations)


def flat(protocol: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the entries of a protocol, those of an inner one as ``grader.name``."""
    for key, value in protocol.items():
        if isinstance(value, Mapping):
            yield from flat(cast(Mapping[str, Any], value), f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _read_object(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise ScoresFileError(
            f"no scores at {str(file)!r}; give a folder that `run` or `grade` wrote, or its scores.json"
        )
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ScoresFileError(f"{file}: not JSON ({error}); repeat the command that wrote it") from None
    if not isinstance(content, dict):
        raise ScoresFileError(f"{file}: holds no JSON object; repeat the command that wrote it")
    return content


def _to_evaluation(fields: dict[str, Any]) -> Evaluation:
    """Undo `dataclasses.asdict` and the lists that JSON makes of tuples."""
    lengths = fields["lengths"]
    records: dict[str, Any] = {
        "scores": tuple(Score(**_with_interval(score)) for score in fields["scores"]),
        "bootstrap": tuple(fields["bootstrap"]),
        "lengths": None if lengths is None else Lengths(**lengths),
        "length_groups": tuple(LengthGroup(**group) for group in fields["length_groups"]),
        "budgets": tuple(
            BudgetPoint(**point | {"accuracy": Estimate(**_with_interval(point["accuracy"]))})
            for point in fields["budgets"]
        ),
        "unscored": tuple(fields["unscored"]),
        "lost": tuple(fields.get("lost", ())),
        "by_seed": tuple((seed, share) for seed, share in fields.get("by_seed", [])),
        "problems": tuple(
            ProblemResult(**problem | {"references": tuple(problem["references"])}) for problem in fields["problems"]
        ),
    }
    return Evaluation(**fields | records)


def _with_interval(fields: dict[str, Any]) -> dict[str, Any]:
    return fields | {"interval": tuple(fields["interval"])}
