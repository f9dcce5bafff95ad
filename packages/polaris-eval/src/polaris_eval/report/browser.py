"""The part of a report in which problems and completions can be looked at: data, and the script that shows them.

Texts stand in the page as JSON and are only ever shown as text, so whatever a model wrote is never markup.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

MAX_PAGE_CHARS = 20_000_000
"""Of all texts in the page; a browser opens it in a second or two."""

MIN_TEXT_CHARS = 2_000
"""Of each completion, however many there are."""


def browser_part(records: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Return the browser as an HTML fragment.

    Args:
        records: By benchmark, the lines of its ``completions.jsonl``. Of texts too long for a page the middle is left
            out, and the page says how much.
    """
    num_completions = sum(len(record["completions"]) for group in records.values() for record in group)
    max_chars = max(MIN_TEXT_CHARS, MAX_PAGE_CHARS // max(1, num_completions))
    data = [
        {"name": name, "problems": [_problem(record, max_chars) for record in group]} for name, group in records.items()
    ]
    # Within a script element only "</" could end it and "<!--" change its meaning.
    content = json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    folder = Path(__file__).parent
    script, style = (folder / "browser.js").read_text("utf-8"), (folder / "browser.css").read_text("utf-8")
    return (
        f'<h2 id="completions">Problems and completions</h2>\n<style>\n{style}</style>\n<div id="browser"></div>\n'
        f'<script type="application/json" id="browser-data">{content}</script>\n<script>\n{script}</script>'
    )


def _problem(record: Mapping[str, Any], max_chars: int) -> dict[str, Any]:
    return {
        "id": record["problem_id"],
        "question": record.get("question"),
        "references": record["references"],
        "completions": [_completion(completion, max_chars) for completion in record["completions"]],
    }


def _completion(completion: Mapping[str, Any], max_chars: int) -> dict[str, Any]:
    text = completion["text"]
    is_cut = len(text) > max_chars
    return {
        "outcome": completion["outcome"],
        "answer": completion["answer"],
        "tokens": completion["num_tokens"],
        "finish": completion["finish_reason"],
        "head": text[: max_chars // 2] if is_cut else text,
        "tail": text[-(max_chars // 2) :] if is_cut else "",
        "cut": len(text) - 2 * (max_chars // 2) if is_cut else 0,
    }
