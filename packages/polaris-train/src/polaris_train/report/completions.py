"""The completions of training steps for the browser of a page: packed, and unpacked in the page when they are opened.

A pack is one line of gzip in base64 with everything but the texts, and one such line with the texts of each group.
Packs stand in the page while there is room (`INLINE_BYTES`), as script elements that no browser runs; the others go to
files beside it, which the page loads by a script element when a step is opened, so that a page on a disk can.
"""

import base64
import gzip
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby
from pathlib import Path
from typing import Any

from polaris_data import Problem
from polaris_data.files import write_text
from polaris_reward import Outcome
from polaris_rollout import StoreError
from polaris_rollout.store import count_tokens, read_columns

from polaris_train.errors import RunFolderError
from polaris_train.report.document import Markup, Part, Text, Warning
from polaris_train.report.evidence import RunEvidence, StageEvidence
from polaris_train.resolved import ResolvedStage

INLINE_BYTES = 8 * 2**20
"""Of all packs in the page: it still opens at once."""

BESIDE_MIB = 512
"""Of all packs beside the page, unless the user says otherwise."""

_FORMAT = "1"
"""Of a pack; another makes it again."""


@dataclass(frozen=True, slots=True)
class StepPlace:
    """A step whose completions are on disk."""

    stage: str
    """Name of its stage."""

    step: int
    """Counted from 1 within the stage."""

    @property
    def key(self) -> str:
        """Names the step in the page."""
        return f"{self.stage}/{self.step}"

    @property
    def file(self) -> str:
        """Name of its pack beside the page."""
        return f"{self.stage}-step-{self.step:06d}.js"


def browser_parts(
    run: RunEvidence, page: Path, *, wanted: Sequence[str] = (), beside_mib: int = BESIDE_MIB
) -> list[Part]:
    """Write the packs that do not fit into a page and return the browser.

    Args:
        run: Of which the completions are.
        page: The file that the browser will stand in.
        wanted: Steps, ``STAGE:STEP``, that must be in it.
        beside_mib: Room for packs beside the page; steps that do not fit can be asked for.

    Raises:
        RunFolderError: If a wanted step has no completions on disk.
    """
    stages = {stage.name: stage for stage in run.stages if stage.resolved}
    places = [StepPlace(stage.name, step) for stage in stages.values() for step in stage.folder.rollout_steps()]
    if not places:
        return [Text("No completions are on disk yet: rollouts/ of a stage holds them, a file for each step.")]
    in_order = _by_interest(places, stages, _wanted(wanted, places))
    folder = page.with_name(f"{page.stem}-steps")
    inline: dict[StepPlace, str] = {}
    beside: list[StepPlace] = []
    damaged: list[str] = []
    room, room_beside = INLINE_BYTES, beside_mib * 2**20
    for place in in_order:
        if room_beside <= 0 and place.key not in {each.replace(":", "/") for each in wanted}:
            break
        stage = stages[place.stage]
        try:
            pack = _pack_or_reuse(stage, place, folder, run.questions)
        except StoreError as error:
            damaged.append(str(error))
            continue
        if pack.size <= room:
            inline[place] = pack.content()
            room -= pack.size
        else:
            pack.write(folder / place.file)
            beside.append(place)
            room_beside -= pack.size
    _remove_others(folder, beside)
    return [
        *map(Warning, damaged),
        *_describe(places, inline, beside, folder),
        Markup(_markup(places, inline, beside, folder, stages)),
    ]


def _wanted(wanted: Sequence[str], places: Sequence[StepPlace]) -> list[StepPlace]:
    by_name = {f"{place.stage}:{place.step}": place for place in places}
    for name in wanted:
        if name not in by_name:
            raise RunFolderError(
                f"--step {name!r}: no completions of that step are on disk; give STAGE:STEP, such as "
                f"{next(iter(by_name))} or {list(by_name)[-1]}"
            )
    return [by_name[name] for name in wanted]


def _by_interest(
    places: Sequence[StepPlace], stages: Mapping[str, StageEvidence], wanted: Sequence[StepPlace]
) -> list[StepPlace]:
    """Return the steps, those first that a reader asks for first.

    After those that were asked for: the last and the first step of each stage, steps with alarms, then ever finer
    parts of the rest.
    """
    ends = [
        place
        for name in stages
        for own in [[place for place in places if place.stage == name]]
        if own
        for place in (own[-1], own[0])
    ]
    alarmed = {(stage.name, line.step) for stage in stages.values() for line in stage.metrics if line.alarms}
    rung = [place for place in places if (place.stage, place.step) in alarmed]
    spread = [places[index] for index in _ever_finer(len(places))]
    return list(dict.fromkeys([*wanted, *ends, *rung, *spread]))


def _ever_finer(length: int) -> Iterator[int]:
    """Yield 0 to ``length - 1`` so that every beginning is spread evenly; some come several times."""
    parts = 1
    while parts < 2 * length:
        yield from (index * length // parts for index in range(parts))
        parts *= 2


@dataclass(frozen=True, slots=True)
class _Pack:
    """A step's completions as lines of base64, or the file that has them already."""

    lines: Sequence[str]
    known: Path | None
    head: str

    @property
    def size(self) -> int:
        """In bytes."""
        return self.known.stat().st_size if self.known else sum(map(len, self.lines)) + len(self.lines)

    def content(self) -> str:
        """Return the lines as text."""
        if self.known:
            return self.known.read_text("utf-8").partition("`")[2].rpartition("`")[0]
        return "\n".join(self.lines)

    def write(self, path: Path) -> None:
        """Write a script that hands the lines to the page, unless it is there."""
        if self.known is None:
            write_text(path, f"{self.head}`{self.content()}`);\n")


def _pack_or_reuse(stage: StageEvidence, place: StepPlace, folder: Path, questions: Mapping[str, Problem]) -> _Pack:
    """Return a step's pack; one that was made of the same completions is not made again."""
    assert stage.resolved is not None
    source = stage.folder.rollout(place.step)
    digest = hashlib.sha256()
    for part in (_FORMAT, stage.resolved.model_dump_json()):
        digest.update(part.encode())
    with source.open("rb") as file:
        digest.update(hashlib.file_digest(file, "sha256").digest())
    head = f"/* {digest.hexdigest()} */\npolarisStep({json.dumps(place.key)}, "
    path = folder / place.file
    if path.exists():
        with path.open(encoding="utf-8") as file:
            if file.read(len(head)) == head:
                return _Pack((), path, head)
    return _Pack(list(_lines(source, stage.resolved, questions)), None, head)


def _lines(source: Path, config: ResolvedStage, questions: Mapping[str, Problem]) -> Iterator[str]:
    columns = read_columns(source, ["problem_id", "text", "finish_reason", "outcome", "answer"])
    columns["tokens"] = count_tokens(source)
    groups = [list(rows) for _, rows in groupby(range(len(columns["text"])), key=columns["problem_id"].__getitem__)]
    yield _packed([_group(rows, columns, config, questions) for rows in groups])
    for rows in groups:
        yield _packed([columns["text"][row] for row in rows])


def _group(
    rows: Sequence[int], columns: Mapping[str, list[Any]], config: ResolvedStage, questions: Mapping[str, Problem]
) -> dict[str, Any]:
    from polaris_train.grpo import completion_advantages  # torch takes seconds to import

    name = columns["problem_id"][rows[0]]
    outcomes, lengths = ([columns[column][row] for row in rows] for column in ("outcome", "tokens"))
    rewards = [float(outcome == Outcome.CORRECT) for outcome in outcomes]
    advantages = completion_advantages(
        rewards,
        lengths,
        normalize_std=config.normalize_std,
        max_tokens=config.max_answer_tokens,
        overlong_cache=config.overlong_cache,
        normalize_mean=config.normalize_mean,
        mgpo_lambda=config.mgpo_lambda,
        long2short=config.long2short,
    )
    problem = questions.get(name)
    return {
        "id": name,
        "question": problem.question if problem else None,
        "references": list(problem.references) if problem else [],
        "completions": [
            {
                "outcome": outcome,
                "answer": columns["answer"][row],
                "tokens": length,
                "cut": columns["finish_reason"][row] == "length",
                "reward": reward,
                "advantage": round(advantage, 4) + 0.0,
            }
            for row, outcome, length, reward, advantage in zip(
                rows, outcomes, lengths, rewards, advantages, strict=True
            )
        ],
    }


def _packed(content: Any) -> str:
    data = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
    return base64.b64encode(gzip.compress(data, compresslevel=6, mtime=0)).decode()


def _remove_others(folder: Path, beside: Sequence[StepPlace]) -> None:
    """Remove packs of an earlier page, so that what is there does not depend on what was."""
    kept = {place.file for place in beside}
    for path in folder.glob("*-step-*.js"):
        if path.name not in kept:
            path.unlink()
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def _describe(
    places: Sequence[StepPlace], inline: Mapping[StepPlace, str], beside: Sequence[StepPlace], folder: Path
) -> Iterator[Part]:
    left = len(places) - len(inline) - len(beside)
    parts = [f"{len(inline):,} of {len(places):,} steps are inside this page"]
    if beside:
        parts.append(f"{len(beside):,} in {folder.name}/ beside it, loaded when opened: keep it with the page")
    if left:
        parts.append(
            f"{left:,} are left out for their size: `polaris report RUN --step STAGE:STEP` adds one, --mib N makes room"
        )
    yield Text(
        f"Completions as they were sampled and graded, before any rescue; {'; '.join(parts)}. "
        "The text of a completion is unpacked when it is opened."
    )


def _markup(
    places: Sequence[StepPlace],
    inline: Mapping[StepPlace, str],
    beside: Sequence[StepPlace],
    folder: Path,
    stages: Mapping[str, StageEvidence],
) -> str:
    rewards = {(stage.name, line.step): line for stage in stages.values() for line in stage.metrics}
    files = {place: f"{folder.name}/{place.file}" for place in beside}

    def entry(place: StepPlace) -> dict[str, Any]:
        line = rewards.get((place.stage, place.step))
        return {
            "stage": place.stage,
            "step": place.step,
            "where": "page" if place in inline else files.get(place),
            "reward": line.reward if line else None,
            "rescued": line.rescued_groups if line else 0,
        }

    catalog = json.dumps([entry(place) for place in places], ensure_ascii=False, separators=(",", ":"))
    packs = "\n".join(
        f'<script type="application/octet-stream" data-step="{escape(place.key)}">{inline[place]}</script>'
        for place in places
        if place in inline
    )
    # Within a script element only "</" could end it and "<!--" change its meaning.
    safe = catalog.replace("<", "\\u003c")
    return f'<div id="browser"></div>\n<script type="application/json" id="steps">{safe}</script>\n{packs}'
