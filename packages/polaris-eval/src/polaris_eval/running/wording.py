"""What is asked: the text before every question, the question, the text after it."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polaris_data import PROMPT_SUFFIX, Problem, to_prompt
from polaris_data.problems import find, json_lines

from polaris_eval.errors import SettingError

_QUESTIONS = ("question", "problem", "prompt")
_SOLUTIONS = ("solution", "response", "completion", "answer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wording:
    """What stands around every question, inside the user turn."""

    prefix: str = ""
    """Before it: worked examples, as `read_few_shot` returns them."""

    suffix: str = PROMPT_SUFFIX
    """After it; training appends the same."""

    def ask(self, problem: Problem) -> str:
        """Return the user turn for a problem."""
        return self.prefix + to_prompt(problem, suffix=self.suffix)

    def settings(self) -> dict[str, Any]:
        """Return what can change a score, fit for JSON; of the prefix its fingerprint, where there is one."""
        few_shot = {"few_shot": hashlib.sha256(self.prefix.encode()).hexdigest()[:16]} if self.prefix else {}
        return {"suffix": self.suffix, **few_shot}


AS_IN_TRAINING = Wording()
"""No worked examples, and the suffix of training."""


def read_few_shot(path: Path, *, suffix: str) -> str:
    """Read what stands before every question.

    Args:
        path: A text, taken as it is; or JSON lines of worked examples with a question and its solution (or response,
            or answer), each asked as the question itself will be and followed by an empty line.
        suffix: What stands after every question.

    Raises:
        SettingError: If there is no such file, or nothing in it.
        DataError: If a line is no JSON.
    """
    if not path.is_file():
        raise SettingError(f"--few-shot is {str(path)!r}, which is no file; give a text, or JSON lines of examples")
    if path.suffix in (".jsonl", ".json"):
        prefix = "".join(_example(row.columns, row.place, suffix) for row in json_lines(path))
    else:
        try:
            prefix = path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise SettingError(f"--few-shot is {str(path)!r}, which is no text in UTF-8 ({error})") from error
    if not prefix.strip():
        raise SettingError(f"--few-shot is {str(path)!r}, which is empty; write examples into it or leave it out")
    return prefix


def _example(row: Mapping[str, Any], where: str, suffix: str) -> str:
    question, solution = find(row, *_QUESTIONS), find(row, *_SOLUTIONS)
    if not (isinstance(question, str) and isinstance(solution, str)):
        raise SettingError(
            f"{where} has no text in {' or '.join(_QUESTIONS)} and {' or '.join(_SOLUTIONS)}: {json.dumps(row):.200}"
        )
    return f"{question}{suffix}\n{solution}\n\n"
