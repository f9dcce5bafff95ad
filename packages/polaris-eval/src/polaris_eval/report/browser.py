"""The part of a report in which problems and completions can be looked at: data, and the scripts that show them.

What a problem's list needs stands in the page as JSON; the texts, of which there may be tens of millions of characters,
are packed by problem and unpacked when one is opened. Texts are only ever shown as text, so whatever a model wrote is
never markup; of formulas KaTeX makes elements.
"""

import base64
import gzip
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from polaris_reward import Outcome

MAX_PAGE_CHARS = 120_000_000
"""Of all texts in the page: 1,000 completions of 30,000 tokens. Packed they take a third of it."""

MIN_TEXT_CHARS = 2_000
"""Of each completion, however many there are."""

COLORS: Mapping[str, str] = {
    Outcome.CORRECT: "#0072b2",
    Outcome.INCORRECT: "#e69f00",
    Outcome.NO_ANSWER: "#c4c4c4",
    Outcome.ANSWER_REJECTED: "#b5508d",
    Outcome.ANSWER_TIMEOUT: "#4d4d4d",
    Outcome.REFERENCE_REJECTED: "#f0e442",
}
"""Of a completion, by its outcome: blue and orange, which no common colour blindness confuses, and others that differ
in lightness as well (after Okabe and Ito, "Color Universal Design", 2008)."""

_MAX_ANSWER_CHARS = 200
"""Of an answer in a list."""

_END_CHARS = 300
"""How near to its end a text must state a reference for that to be worth a look."""

_ROOM = Path(__file__).parent

_SCRIPTS = ("mathematics.js", "places.js", "list.js", "detail.js")
"""In one scope, in this order."""


def browser_part(records: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Return the browser as an HTML fragment; it takes `browser_scripts` after it.

    Args:
        records: By benchmark, the lines of its ``completions.jsonl``. Of texts too long for a page the middle is left
            out, and the page says how much. A completion may carry a second grader's verdict: ``second`` with
            ``grader`` and ``outcome``.
    """
    num_completions = sum(len(record["completions"]) for group in records.values() for record in group)
    max_chars = max(MIN_TEXT_CHARS, MAX_PAGE_CHARS // max(1, num_completions))
    data = [
        {"name": name, "problems": [_problem(record, max_chars) for record in group]} for name, group in records.items()
    ]
    # Within a script element only "</" could end it and "<!--" change its meaning.
    # Surrogates that some file brought along have no bytes; as escapes they do no harm, here and in the packs.
    content = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    packs = "\n".join(_packs(records, max_chars))
    return (
        f'<h2 id="completions">Problems and completions</h2>\n<style>\n{_style()}</style>\n<div id="browser"></div>\n'
        f'<script type="application/json" id="browser-data">{content}</script>\n{packs}'
    )


def browser_scripts() -> list[str]:
    """Return the scripts that fill the browser: KaTeX, and ours as one."""
    ours = "".join((_ROOM / name).read_text("utf-8") for name in _SCRIPTS)
    return [(_ROOM / "katex/katex.min.js").read_text("utf-8"), f'"use strict";\n{{\n{ours}}}\n']


def _style() -> str:
    """Return the style of the browser and of formulas, with the fonts in it."""

    def font(match: re.Match[str]) -> str:
        content = base64.b64encode((_ROOM / "katex" / f"{match[1]}.woff2").read_bytes()).decode()
        return f'src:url(data:font/woff2;base64,{content}) format("woff2")'

    katex = (_ROOM / "katex/katex.min.css").read_text("utf-8")
    katex = re.sub(r"src:url\(fonts/([\w-]+)\.woff2\)[^}]*", font, katex)
    colors = "".join(
        f":root {{ --{outcome}: {color} }}\n#browser :is(li, details).{outcome} {{ border-left-color: {color} }}\n"
        for outcome, color in COLORS.items()
    )
    return f"{katex}\n{(_ROOM / 'browser.css').read_text('utf-8')}{colors}"


def _packs(records: Mapping[str, Sequence[Mapping[str, Any]]], max_chars: int) -> Iterator[str]:
    """Yield the texts of each problem as an element: a list in JSON, with gzip, in base64."""
    for place, group in enumerate(records.values()):
        for number, record in enumerate(group):
            texts = [_shown(completion["text"], max_chars) for completion in record["completions"]]
            packed = gzip.compress(json.dumps(texts).encode(), compresslevel=6, mtime=0)
            content = base64.b64encode(packed).decode()
            yield f'<script type="application/gzip" id="pack-{place}-{number}">{content}</script>'


def _problem(record: Mapping[str, Any], max_chars: int) -> dict[str, Any]:
    references = record["references"]
    return {
        "id": record["problem_id"],
        "question": record.get("question"),
        "references": references,
        "completions": [_completion(completion, references, max_chars) for completion in record["completions"]],
    }


def _completion(completion: Mapping[str, Any], references: Sequence[str], max_chars: int) -> dict[str, Any]:
    answer, second = completion["answer"], completion.get("second")
    shown = {
        "outcome": completion["outcome"],
        "answer": None if answer is None else answer[:_MAX_ANSWER_CHARS],
        "tokens": completion["num_tokens"],
        "finish": completion["finish_reason"],
        "vote": completion.get("vote"),
    }
    if second:
        shown["second"] = {"grader": second["grader"], "outcome": second["outcome"]}
    if completion.get("prefilled"):
        shown["prefilled"] = True
    if _states_reference(completion, references):
        shown["stated"] = True
    if len(completion["text"]) > max_chars:
        shown["left_out"] = len(completion["text"]) - 2 * (max_chars // 2)
    return shown


def _states_reference(completion: Mapping[str, Any], references: Sequence[str]) -> bool:
    """Whether a completion that ended by itself is not correct, though one of the references stands near its end."""
    if completion["outcome"] == Outcome.CORRECT or completion["finish_reason"] == "length":
        return False
    end = completion["text"][-_END_CHARS:]
    return any(
        re.search(rf"(?<![\w.]){re.escape(reference.strip())}(?!\w|\.\d)", end)
        for reference in references
        if reference.strip()
    )


def _shown(text: str, max_chars: int) -> str:
    if len(text) <= max_chars:
        return text
    half = max_chars // 2
    gap = f"[... {len(text) - 2 * half:,} characters are in completions.jsonl only ...]"
    return f"{text[:half]}\n\n{gap}\n\n{text[-half:]}"
