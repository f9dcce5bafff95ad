"""Reports that can be sent to others: Markdown, and one HTML page that needs no other file."""

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from polaris_data.files import write_text
from polaris_data.problems import json_lines

from polaris_eval.benchmarks import published_beside
from polaris_eval.records import Evaluation
from polaris_eval.report.tables import detail_tables, summary_rows
from polaris_eval.running.protocol import protocol_hash, split_settings
from polaris_eval.scores.files import Scores, flat, read_scores

_FIRST_SETTINGS = ("temperature", "top_p", "top_k", "max_tokens", "context", "seed", "grader.name")
"""Of a protocol, in the line that stands first."""


def write_reports(out: Path) -> tuple[Path, Path]:
    """Write ``report.md`` and ``report.html`` from the scores and completions of an evaluation.

    Args:
        out: Folder that ``run`` or ``grade`` wrote. A benchmark whose completions are gone has its scores only.

    Returns:
        The two files.

    Raises:
        ScoresFileError: If there are no scores, or they cannot be read.
        DataError: If a file of completions is damaged.
    """
    scores = read_scores(out)
    records = {each.benchmark: read_records(out, each.benchmark) for each in scores.evaluations}
    markdown, page = out / "report.md", out / "report.html"
    write_text(markdown, _markdown(scores))
    _write_page(page, scores, {name: lines for name, lines in records.items() if lines})
    return markdown, page


def read_records(out: Path, benchmark: str) -> list[Mapping[str, Any]]:
    """Return the completions of a benchmark, none where they are gone.

    Raises:
        DataError: If the file is damaged.
    """
    path = out / benchmark / "completions.jsonl"
    return [row.columns for row in json_lines(path)] if path.is_file() else []


def _markdown(scores: Scores) -> str:
    """Return the tables of the terminal as Markdown, and the protocol below them."""
    tables = {"mean@k in percent, with its 95% interval clustered by problem": summary_rows(scores.evaluations)}
    parts = [f"# Evaluation of {_cell(scores.model)}", _cell(_protocol_line(scores.protocol))]
    for heading, rows in (tables | detail_tables(scores.evaluations)).items():
        parts.append(f"## {heading}\n\n{_markdown_table(rows)}")
        parts += map(_cell, _published(scores) if heading in tables else ())
    parts += map(_cell, _notes(scores.evaluations))
    parts.append(f"## Protocol\n\n```json\n{json.dumps(scores.protocol, indent=2, ensure_ascii=False)}\n```")
    return "\n\n".join(parts) + "\n"


def _write_page(path: Path, scores: Scores, records: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    # The pictures need a library that takes a second to import.
    from polaris_data.view import svg_part, table_part, text_part, warning_part, write_page

    from polaris_eval.report.browser import browser_part, browser_scripts
    from polaris_eval.report.plots import draw_budgets, draw_length_groups, draw_scores

    evaluations = scores.evaluations
    figures = (draw_scores(evaluations), draw_length_groups(evaluations), draw_budgets(evaluations))
    bars, lengths, budgets = (None if figure is None else svg_part(figure) for figure in figures)
    details = "".join(
        f"<h3>{heading}</h3>{table_part(rows[0], rows[1:])}" for heading, rows in detail_tables(evaluations).items()
    )
    header, *rows = summary_rows(evaluations)
    published = "".join(map(text_part, _published(scores)))
    sections = {
        "scores": ("Scores", f"{table_part(header, rows)}{published}{bars or ''}"),
        "length": ("Length", lengths),
        "budget": ("Token budget", budgets),
        "tables": ("Tables", details),
    }
    shown = {key: (title, content) for key, (title, content) in sections.items() if content}
    contents = {key: title for key, (title, _) in shown.items()}
    parts = [
        protocol_part(scores.protocol),
        text_part("Shares in percent; intervals are 95%, clustered by problem."),
        *map(warning_part, _notes(evaluations)),
        _contents_part(contents | ({"completions": "Problems and completions"} if records else {})),
        *(f'<h2 id="{key}">{title}</h2>{content}' for key, (title, content) in shown.items()),
        *([browser_part(records)] if records else []),
    ]
    write_page(path, f"Evaluation of {scores.model}", parts, scripts=browser_scripts() if records else ())


def protocol_part(protocol: Mapping[str, Any], *, side: str = "") -> str:
    """Return how scores were made as a fragment: in a line, and in full where that is opened."""
    from polaris_data.view import table_part

    settings = [(key, json.dumps(value, ensure_ascii=False)) for key, value in flat(protocol)]
    line = escape(side + _protocol_line(protocol))
    if not settings:
        return f"<p>{line}</p>"
    return f'<details class="protocol"><summary>{line}</summary>{table_part(("setting", "value"), settings)}</details>'


def _protocol_line(protocol: Mapping[str, Any]) -> str:
    """Return the fingerprint of a protocol with what is asked for first: ``Protocol 1f..., temperature 1.0, ...``."""
    if not protocol:
        return "Protocol: not recorded"
    known = dict(flat(protocol))
    settings = [f"{key.removesuffix('.name')} {known[key]}" for key in _FIRST_SETTINGS if known.get(key) is not None]
    return ", ".join([f"Protocol {protocol_hash(protocol)}", *settings])


def _contents_part(sections: Mapping[str, str]) -> str:
    links = "".join(f'<a href="#{key}">{title}</a>' for key, title in sections.items())
    return f'<nav class="contents">{links}</nav>'


def _published(scores: Scores) -> list[str]:
    """Return what was published for the same model in the same settings."""
    return [line for settings in split_settings(scores.protocol) for line in published_beside(settings)]


def _notes(evaluations: Sequence[Evaluation]) -> list[str]:
    """Return what must be known beside the scores: problems and rows that are in none, and numbers of samples."""
    return [note for each in evaluations for note in (*_unscored(each), *notes_of_file(each))]


def notes_of_file(each: Evaluation) -> list[str]:
    """Return what must be known of the file that was graded: what of it is in no score."""
    notes: list[str] = []
    if each.set_aside:
        reasons = ", ".join(f"{count} {reason}" for reason, count in each.set_aside.items())
        notes.append(
            f"{each.benchmark}: {sum(each.set_aside.values())} rows or completions are set aside and in no score "
            f"({reasons}); {each.benchmark}/set-aside.jsonl has them"
        )
    if each.lost:
        notes.append(
            f"{each.benchmark}: {len(each.lost)} of {len(each.lost) + each.num_problems} problems have no completion "
            f"that could be graded, and are in no score: {_some(each.lost)}"
        )
    most = max(problem.num_samples for problem in each.problems)
    if most > each.num_samples:
        notes.append(
            f"{each.benchmark}: the problems have {each.num_samples} to {most} completions; mean@k is the mean of each "
            f"problem's share of all of them, pass@k and maj@k go up to {each.num_samples}"
        )
    return notes


def _unscored(each: Evaluation) -> list[str]:
    if not each.unscored:
        return []
    return [
        f"{each.benchmark}: {len(each.unscored)} of {each.num_problems} problems are left out: the grader cannot "
        f"read their references: {_some(each.unscored)}"
    ]


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def _markdown_table(rows: Sequence[Sequence[str]]) -> str:
    lines = [" | ".join(map(_cell, row)) for row in rows]
    rule = " | ".join("---:" if number else "---" for number in range(len(rows[0])))
    return "\n".join(f"| {line} |" for line in (lines[0], rule, *lines[1:]))


def _cell(text: str) -> str:
    return text.replace("|", r"\|").replace("\n", " ")
