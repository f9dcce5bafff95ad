"""Evaluations as ``scores.json`` holds them."""

import json
from pathlib import Path
from typing import Any

from polaris_eval.errors import ScoresFileError
from polaris_eval.records import BudgetPoint, Estimate, Evaluation, LengthGroup, Lengths, ProblemResult, Score


def read_content(path: Path) -> dict[str, Any]:
    """Read ``scores.json``, given itself or its folder.

    Raises:
        ScoresFileError: If there is none, or it is not a JSON object.
    """
    file = path / "scores.json" if path.is_dir() else path
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


def read_evaluations(path: Path) -> list[Evaluation]:
    """Return the evaluations of a ``scores.json``, given itself or its folder.

    Raises:
        ScoresFileError: If they cannot be read.
    """
    content = read_content(path)
    try:
        return [_to_evaluation(evaluation) for evaluation in content["evaluations"]]
    except (KeyError, TypeError) as error:
        raise ScoresFileError(
            f"{path}: not what this version writes ({type(error).__name__}: {error}); repeat the command that wrote "
            "it, which samples nothing anew"
        ) from None


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
        "problems": tuple(
            ProblemResult(**problem | {"references": tuple(problem["references"])}) for problem in fields["problems"]
        ),
    }
    return Evaluation(**fields | records)


def _with_interval(fields: dict[str, Any]) -> dict[str, Any]:
    return fields | {"interval": tuple(fields["interval"])}
