"""A verifier's folder, and its score file: what ``polaris-train verifier`` reads and writes."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from polaris_data.files import write_json, write_text
from polaris_eval import load_benchmark
from polaris_eval.running import grade_groups, read_completions
from polaris_eval.scores import correct_by_problem
from polaris_reward import boxed_grader
from polaris_rollout import derive_seed, model_digest
from safetensors.torch import load_file, save_file

from polaris_train.errors import VerifierError
from polaris_train.verifier.head import Head, fit_head
from polaris_train.verifier.reports import Report, report_on
from polaris_train.verifier.states import Reader

logger = logging.getLogger(__name__)

_HEAD, _SETTINGS = "head.safetensors", "verifier.json"

SCORES = "scores.jsonl"
"""What heads that did not learn from a problem say of its completions."""


def train_verifier(
    *files: Path,
    model: str,
    out: Path,
    suffix: str,
    problems: str | None = None,
    folds: int = 5,
    seed: int = 0,
) -> Report:
    """Train a head on completions, which are graded here, and write its folder.

    How good it is tell the scores of each problem by a head that learned from others: problems are dealt to ``folds``
    by a hash. The head that is written learned from all. Problems whose reference the grader cannot read have scores,
    but nothing is learned from them, and nothing told.

    Args:
        files: Of completions, in any form that ``polaris-eval grade`` reads.
        model: That reads them; frozen.
        out: Folder to write: ``head.safetensors``, ``verifier.json``, ``scores.jsonl``.
        suffix: Of every question.
        problems: File of the problems, where the completions do not hold questions and answers.
        folds: At least two.
        seed: Of the folds.

    Returns:
        What the heads do for problems that they did not learn from.

    Raises:
        VerifierError: If there are too few problems, or all completions to learn from are right or all wrong.
    """
    with boxed_grader() as grader:
        groups = grade_groups(_read(files, problems), grader.grade_many)
    known = correct_by_problem(groups)
    graded = [place for place, group in enumerate(groups) if group["problem_id"] in known]
    if len(graded) < len(groups):
        logger.warning("%d of %d references cannot be read: left out", len(groups) - len(graded), len(groups))
    if len(graded) < folds:
        raise VerifierError(f"{len(graded)} problems are fewer than {folds} folds; give more, or fewer --folds")
    order = sorted(range(len(groups)), key=lambda place: derive_seed(seed, "verifier", groups[place]["problem_id"]))
    parts = [set(order[fold::folds]) for fold in range(folds)]
    learned = [[place for place in graded if place not in part] for part in parts]
    for places in [*learned, graded]:
        _require_both([right for place in places for right in known[groups[place]["problem_id"]]])
    reader = Reader(model, suffix=suffix)
    states = _by_group(groups, reader.states(groups))

    def fit(places: Sequence[int]) -> Head:
        rights = [right for place in places for right in known[groups[place]["problem_id"]]]
        return fit_head(torch.cat([states[place] for place in places]), rights)

    scores: dict[int, list[float]] = {}
    for part, places in zip(parts, learned, strict=True):
        head = fit(places)
        scores |= {place: head.probabilities(states[place]) for place in part}
    report = report_on([groups[place] for place in graded], [scores[place] for place in graded])
    trained_on = [groups[place]["problem_id"] for place in graded]
    settings = {"suffix": suffix, "seed": seed, "folds": folds, "trained_on": trained_on, "held_out": asdict(report)}
    _write(out, fit(graded), reader, settings)
    _write_scores(out / SCORES, groups, [scores[place] for place in range(len(groups))])
    return report


def score_completions(
    *files: Path, verifier: Path, out: Path, problems: str | None = None, model: str | None = None
) -> int:
    """Write a line of scores for each problem, as ``polaris-eval grade --scores`` takes it; return how many.

    Args:
        files: Of completions, as `train_verifier` takes them.
        verifier: Folder that it wrote.
        out: File to write.
        problems: As there.
        model: Where the model is now, if it has moved.

    Raises:
        VerifierError: If the folder holds no verifier, or the model is another one.
    """
    try:
        settings = json.loads((verifier / _SETTINGS).read_text(encoding="utf-8"))
        tensors = load_file(verifier / _HEAD)
        head = Head(weight=tensors["weight"], bias=tensors["bias"])
        suffix, digest, place = settings["suffix"], settings["digest"], model or settings["model"]
    except (OSError, ValueError, KeyError) as error:
        raise VerifierError(f"{verifier} holds no verifier ({error}); make one with 'train'") from None
    groups = _read(files, problems)
    reader = Reader(place, suffix=suffix)
    if model_digest(reader.model) != digest:
        raise VerifierError(f"{reader.model} is not the model that {verifier} was trained on; name that with --model")
    if again := {group["problem_id"] for group in groups} & set(settings["trained_on"]):
        logger.warning(
            "the verifier has learned from %d of these problems and knows them too well; what it says unseen is in %s",
            len(again),
            verifier / SCORES,
        )
    scores = [head.probabilities(own) for own in _by_group(groups, reader.states(groups))]
    _write_scores(out, groups, scores)
    return len(groups)


def _require_both(correct: Sequence[bool]) -> None:
    if len(set(correct)) < 2:
        raise VerifierError(
            f"all {len(correct)} completions to learn from are {'right' if correct[0] else 'wrong'}; give some of both"
        )


def _by_group(groups: Sequence[Mapping[str, Any]], states: torch.Tensor) -> Sequence[torch.Tensor]:
    """Return the states of each group's completions, which stand in a row."""
    return states.split([len(group["completions"]) for group in groups])


def _read(files: Sequence[Path], problems: str | None) -> list[dict[str, Any]]:
    for file in files:
        if not file.is_file():
            raise VerifierError(f"no file {str(file)!r}; give files of completions")
    read = read_completions(*files, benchmark=None if problems is None else load_benchmark(problems))
    return list(read.groups)


def _write(out: Path, head: Head, reader: Reader, settings: Mapping[str, Any]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    temporary = out / f"{_HEAD}.tmp"
    save_file({"weight": head.weight, "bias": head.bias}, temporary)
    temporary.replace(out / _HEAD)
    write_json(out / _SETTINGS, {"model": reader.model, "digest": model_digest(reader.model), **settings})


def _write_scores(path: Path, groups: Sequence[Mapping[str, Any]], scores: Sequence[Sequence[float]]) -> None:
    records = [{"problem_id": group["problem_id"], "scores": own} for group, own in zip(groups, scores, strict=True)]
    write_text(path, (json.dumps(record) + "\n" for record in records))
