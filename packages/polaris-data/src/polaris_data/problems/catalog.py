r"""Ready importers: where well-known training sets are, which of their columns is what, and where their answers are.

The columns, splits and revisions stand as published cards and the code of others that read these sets give them; no
set was loaded from the Hub while this was written. `Importer.note` says what could not be established.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from polaris_data.errors import SettingError
from polaris_data.problems.answers import number_as_text
from polaris_data.problems.columns import Columns


def as_it_is(value: Any) -> Any:
    """Return the value."""
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Importer:
    """How one published data set is read; a local copy of it, as a file or a folder, is read the same way."""

    hub_id: str
    """Where it is on the Hub, with ``:NAME`` for one of several configurations."""

    revision: str | None
    """Commit that is read from the Hub; ``None`` is the newest, for want of a known one."""

    split: str = "train"
    """Of the Hub data set."""

    columns: Columns
    """Where the fields stand."""

    answer: Callable[[Any], Any] = as_it_is
    """Finds the answer, or the list of accepted ones, in the column of references; ``None`` if it holds none."""

    note: str = ""
    """What a user should know about it."""


def find_importer(name: str) -> Importer:
    """Return a ready importer.

    Raises:
        SettingError: If there is none of this name.
    """
    if name not in IMPORTERS:
        raise SettingError(f"unknown importer {name!r}; choose one of {', '.join(IMPORTERS)}")
    return IMPORTERS[name]


def parse_columns(text: str) -> Columns:
    """Read a mapping of columns such as ``question=TEXT,references=ANS,id=KEY``; fields left out keep their names.

    Raises:
        SettingError: If it names another field, or a field without a column.
    """
    fields = {"id": "problem_id", "question": "question", "references": "references", "source": "source"}
    chosen: dict[str, tuple[str, ...]] = {}
    for part in text.split(","):
        name, _, column = part.partition("=")
        if name.strip() not in fields or not column.strip():
            raise SettingError(
                f"--columns has {part!r}; expected FIELD=COLUMN with one of the fields {', '.join(fields)}, "
                "as in question=TEXT,references=ANS"
            )
        chosen[fields[name.strip()]] = (column.strip(),)
    return Columns(**chosen)


def _json_or_text(value: Any) -> Any:
    """Read a JSON list of accepted answers, texts or numbers; anything else is the answer itself."""
    if isinstance(value, str) and value.strip().startswith("["):
        try:
            values = json.loads(value)
        except ValueError:
            return value
        if isinstance(values, list) and len(values) == 1 and isinstance(values[0], int | float):
            return number_as_text(values[0])
        if isinstance(values, list) and all(isinstance(one, str) for one in values):
            return values
    return value


IMPORTERS = {
    "deepscaler": Importer(
        hub_id="agentica-org/DeepScaleR-Preview-Dataset",
        revision="b6ae8c60f5c1f2b594e2140b91c49c9ad0949e29",
        columns=Columns(problem_id=(), question=("problem",), references=("answer",), source=()),
        note="40,315 rows, with 'solution' kept",
    ),
    "areal-boba": Importer(
        hub_id="inclusionAI/AReaL-boba-Data",
        revision=None,
        columns=Columns(problem_id=("query_id",), question=("prompt",), references=("solutions",), source=()),
        note="106k rows; no revision is known to pin: give --revision; a single file is AReaL-boba-106k.jsonl",
    ),
    "skywork-or1": Importer(
        hub_id="Skywork/Skywork-OR1-RL-Data",
        revision="1cdedc52e0e2db85fdf252f9be682e63a5a38c33",
        split="math",
        columns=Columns(problem_id=(), question=("prompt",), references=("reward_model.ground_truth",), source=()),
        answer=_json_or_text,
        note="105,055 rows of the split 'math', with 'extra_info.model_difficulty' kept",
    ),
    "polaris-53k": Importer(
        hub_id="POLARIS-Project/Polaris-Dataset-53K",
        revision="296f8e34132e63f4a1d70e0dcc8bddebb43f03e4",
        columns=Columns(problem_id=(), question=("problem",), references=("answer",), source=()),
        note="53,291 rows, with 'difficulty' kept: k/8 were solved by DeepSeek-R1-Distill-Qwen-7B",
    ),
    "math": Importer(
        hub_id="DigitalLearningGmbH/MATH-lighteval",
        revision=None,
        columns=Columns(problem_id=(), question=("problem",), references=("answer",), source=()),
        note="7,500 rows; no revision is known to pin: give --revision",
    ),
    "gsm8k": Importer(
        hub_id="openai/gsm8k:main",
        revision="740312add88f781978c0658806c59bc2815b9866",
        columns=Columns(problem_id=(), question=("question", "problem"), references=("answer",), source=()),
        note="7,473 rows",
    ),
    "dapo-17k": Importer(
        hub_id="BytedTsinghua-SIA/DAPO-Math-17k",
        revision="65877096c24ffa7abc4e4fa5edb95cf3413a5674",
        columns=Columns(problem_id=(), question=("prompt",), references=("reward_model.ground_truth",), source=()),
        note="1,791,700 rows, which are 17,917 problems a hundred times: copies are merged",
    ),
}
"""By the name that ``polaris-data import --from`` takes."""
