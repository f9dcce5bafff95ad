"""Grade and score a file of completions from elsewhere."""

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from polaris_data.files import claim, track, write_text
from polaris_reward import BOXED, Convention, GradeMany, Grader, ThinkEvidence
from polaris_rollout import local_folder, prefilled_think, render_prompt, resolve_model

from polaris_eval.errors import CompletionsFileError, SettingError
from polaris_eval.records import Evaluation
from polaris_eval.running.formats import read_completions
from polaris_eval.scores.equivalence import vote_classes
from polaris_eval.scores.files import write_scores
from polaris_eval.scores.summary import summarize

logger = logging.getLogger(__name__)

CountTokens = Callable[[str], int]
"""Says how long a text is."""

_MANY_SILENT = 0.5
"""Share of completions without an answer at which the rule for finding answers is suspect."""


def grade_file(
    file: Path, *, name: str, model: str, out: Path, convention: Convention = BOXED, tokenizer: str | None = None
) -> Evaluation:
    """Grade and score a file of completions.

    Writes ``out/NAME/completions.jsonl``, its settings, and ``out/scores.json``.

    Args:
        file: As `polaris_eval.running.formats.read_completions` takes it.
        name: Of the benchmark, fit for a folder.
        model: Who wrote the completions.
        out: Folder to write.
        convention: What the grader takes for an answer.
        tokenizer: Folder or Hub id of a model, to count tokens where the file does not, and to know whether its chat
            template ends with an opening think tag; see `polaris_reward.ThinkEvidence`.

    Raises:
        CompletionsFileError: If there is no such file, or it cannot be used.
        SettingError: If the name is not fit for a folder, or ``out`` is a file.
        OtherRunError: If the folder belongs to another run; nothing is overwritten.
        UnscorableError: If no problem has a reference that the grader can read.
    """
    if not file.is_file():
        raise CompletionsFileError(f"no file {str(file)!r}; give a file of completions")
    if name in ("", ".", "..") or "/" in name:
        raise SettingError(f"--name is {name!r}; give a name fit for a folder")
    if out.exists() and not out.is_dir():
        raise SettingError(f"--out is {str(out)!r}, which is a file; give a folder")
    settings = grade_file_settings(file, name=name, convention=convention, tokenizer=tokenizer)
    count_tokens, template = _open_tokenizer(tokenizer) if tokenizer else (None, "")
    groups = _after_opened_thought(read_completions(file), template=template, name=str(file))
    with Grader(convention=convention, max_failed_share=None) as grader:
        records = grade_groups(groups, grader.grade_many, count_tokens=count_tokens)
    return score_graded(name, records, settings=settings, model=model, out=out)


def grade_groups(
    groups: Sequence[dict[str, Any]], grade_many: GradeMany, *, count_tokens: CountTokens | None = None
) -> list[dict[str, Any]]:
    """Grade the groups that `polaris_eval.running.formats.read_completions` returns, and number equivalent answers.

    Args:
        groups: Left as they are.
        grade_many: Grades the completions of a group.
        count_tokens: Says how long a text is where its file does not; ``None`` leaves that unknown.

    Returns:
        Lines of ``completions.jsonl``.
    """
    return [
        {**group, "completions": _grade(group, grade_many, count_tokens)}
        for group in track(groups, total=len(groups), label="grading")
    ]


def grade_file_settings(path: Path, *, name: str, convention: Convention, tokenizer: str | None) -> dict[str, Any]:
    """Return what the scores of a graded file depend on, fit for JSON."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {
        "command": "polaris-eval grade",
        "benchmark": name,
        "completions_sha256": digest,
        "tokenizer": tokenizer,
        "grader": asdict(convention) | {"polaris-reward": version("polaris-reward")},
    }


def score_graded(
    name: str, records: Sequence[dict[str, Any]], *, settings: dict[str, Any], model: str, out: Path
) -> Evaluation:
    """Score graded groups, and write ``out/NAME/completions.jsonl``, its settings, and ``out/scores.json``.

    Raises:
        OtherRunError: If the folder belongs to another run; nothing is overwritten.
        UnscorableError: If no problem has a reference that the grader can read.
    """
    evaluation = summarize(name, records)
    if evaluation.score("no_answer").value > _MANY_SILENT:
        logger.warning("%s: most completions have no answer in a box; --policy default looks for others", name)
    claim(out / name / "settings.json", settings)
    lines = (json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    write_text(out / name / "completions.jsonl", lines)
    protocol = {"source": settings["command"], "grader": settings["grader"]}
    write_scores(out, [evaluation], model=model, protocol=protocol)
    return evaluation


def _open_tokenizer(model: str) -> tuple[CountTokens, str]:
    """Return what counts tokens, and the opening think tag that the chat template ends with."""
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(local_folder(resolve_model(model)))
    template = prefilled_think(render_prompt(tokenizer, "1 + 1 = ?"))
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False)), template


def _after_opened_thought(groups: Sequence[dict[str, Any]], *, template: str, name: str) -> list[dict[str, Any]]:
    """Note at each completion of which nothing else is known the think tag that the chat template opened before it."""
    evidence = ThinkEvidence()
    for each in (each for group in groups for each in group["completions"] if "prefilled" not in each):
        evidence.add(each["text"], each["finish_reason"])
    tag = evidence.opening_tag(template)
    if not tag:
        return list(groups)
    if evidence.num_unclosed:
        logger.warning(
            "%s: %d of %d "
            "completions never close the %s that the chat template opened: they were cut in thought and have no answer",
            name,
            evidence.num_unclosed,
            evidence.num_responses,
            tag.strip(),
        )
    return [
        {**group, "completions": [{**each, "prefilled": each.get("prefilled", tag)} for each in group["completions"]]}
        for group in groups
    ]


def _grade(group: dict[str, Any], grade_many: GradeMany, count_tokens: CountTokens | None) -> list[dict[str, Any]]:
    completions = group["completions"]
    grades = grade_many([(each.get("prefilled", "") + each["text"], group["references"]) for each in completions])
    graded = [
        {
            **completion,
            "num_tokens": _num_tokens(completion, count_tokens),
            "outcome": grade.outcome.value,
            "answer": grade.answer,
        }
        for completion, grade in zip(completions, grades, strict=True)
    ]
    (classes,) = vote_classes([graded], grade_many)
    return [{**completion, "vote": vote} for completion, vote in zip(graded, classes, strict=True)]


def _num_tokens(completion: dict[str, Any], count_tokens: CountTokens | None) -> int | None:
    if completion["num_tokens"] is None and count_tokens is not None:
        return count_tokens(completion["text"])
    return completion["num_tokens"]
