"""Self-contained HTML pages: one file with inline pictures, nothing loaded from elsewhere."""

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polaris_data.files.journal import write_text
from polaris_data.profile.adaptive import profile_histogram
from polaris_data.profile.lengths import AnswerDiversity, AnswerLengths
from polaris_data.profile.shift import Shift
from polaris_data.records import Difficulty
from polaris_data.view.terminal import (
    describe_answers,
    describe_profile,
    describe_shift,
    histogram_rows,
    length_rows,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 2em auto; padding: 0 1em; color: #222 }
figure { margin: 0 }
svg { width: 100%; height: auto }
table { border-collapse: collapse; margin: 1em 0 }
table { display: block; overflow-x: auto; width: max-content; max-width: 100% }
td, th { padding: .2em .9em; border-bottom: 1px solid #ddd; text-align: right }
td:first-child, th:first-child { text-align: left }
.warning { background: #fff3cd; padding: .4em .8em; border-left: 4px solid #e0a800; margin: .5em 0 }
.protocol summary { cursor: pointer; overflow-wrap: anywhere }
@media (max-width: 52rem) {
  body { margin: 1em auto; padding: 0 .7em }
  h1 { font-size: 1.4em; overflow-wrap: anywhere }
  td, th { padding: .2em .5em; white-space: nowrap }
  figure { overflow-x: auto }
  figure svg { min-width: 40rem }
}
"""


def write_page(path: Path, title: str, parts: Iterable[str], *, scripts: Sequence[str] = ()) -> None:
    """Write a page; the file appears whole.

    Args:
        path: The file.
        title: Also its heading.
        parts: HTML fragments.
        scripts: Run after them. No other script runs, whatever stands in the parts, and nothing is loaded.
    """
    body = "\n".join([*parts, *(f"<script>{script}</script>" for script in scripts)])
    hashes = " ".join(f"'sha256-{_sha256(script)}'" for script in scripts) or "'none'"
    policy = f"default-src 'none'; style-src 'unsafe-inline'; font-src data:; img-src data:; script-src {hashes}"
    write_text(
        path,
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n<title>{escape(title)}</title>\n'
        f"<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{escape(title)}</h1>\n{body}\n</body>\n</html>\n",
    )


def write_selection_page(path: Path, figure: "Figure | None", summary: Mapping[str, Any]) -> None:
    """Write what a selection did: its histograms, warnings, and the count of each reason.

    Args:
        path: The file.
        figure: The histograms before and after; ``None`` where nothing was measured.
        summary: What ``decisions.json`` holds besides the decisions.
    """
    warnings = [*summary.get("after", {}).get("warnings", []), *summary["notes"]]
    reasons = [(reason, f"{count:,}") for reason, count in summary["reasons"].items()]
    rules = [
        (rule["rule"], ", ".join(f"{key} {value}" for key, value in rule.items() if key != "rule"))
        for rule in summary["rules"]
    ]
    write_page(
        path,
        f"Selection: {summary['num_kept']:,} of {summary['num_problems']:,} problems",
        [
            *([] if figure is None else [svg_part(figure)]),
            *map(warning_part, warnings),
            table_part(("reason", "problems"), reasons),
            table_part(("rules, in this order", "settings"), rules),
        ],
    )


def write_profile_view(
    name: str,
    profile: Sequence[Difficulty],
    *,
    html: Path | None,
    png: Path | None,
    lengths: AnswerLengths | None = None,
    diversity: AnswerDiversity | None = None,
) -> None:
    """Write a profile, and what is known of its answers, as a page, as a picture, or as both."""
    if not (html or png):
        return
    from polaris_data.view.plots import draw_histograms, draw_profile, write_png

    counts = profile_histogram(profile)
    figure = draw_profile(name, counts, lengths) if lengths else draw_histograms({name: counts})
    if png:
        write_png(png, figure)
    if html:
        table = table_part(("solved", "problems", "share"), histogram_rows(counts))
        parts = [text_part(describe_profile(counts, profile)), svg_part(figure), table]
        if lengths:
            header = ("tokens", "answers", "correct", "truncated")
            parts += [text_part(describe_answers(lengths, diversity)), table_part(header, length_rows(lengths))]
        write_page(html, f"Difficulty: {name}", parts)


def write_shift_view(
    profiles: Mapping[str, Sequence[Difficulty]], moved: Shift, *, html: Path | None, png: Path | None
) -> None:
    """Write the shift between two named profiles as a page, as a picture, or as both."""
    if not (html or png):
        return
    from polaris_data.view.plots import draw_shift, write_png

    shapes = {name: profile_histogram(profile) for name, profile in profiles.items()}
    figure = draw_shift(shapes, moved.transitions)
    if png:
        write_png(png, figure)
    if html:
        title = f"Difficulty shift: {' to '.join(profiles)}"
        write_page(html, title, [text_part(describe_shift(moved)), svg_part(figure)])


def svg_part(figure: "Figure") -> str:
    """Return a picture as a fragment."""
    from polaris_data.view.plots import to_svg

    return f"<figure>{to_svg(figure)}</figure>"


def warning_part(text: str) -> str:
    """Return a highlighted sentence as a fragment."""
    return f'<p class="warning">{escape(text)}</p>'


def text_part(text: str) -> str:
    """Return a paragraph as a fragment; its line breaks stay."""
    return f"<p>{escape(text).replace(chr(10), '<br>')}</p>"


def table_part(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table as a fragment."""
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>\n" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table>"


def _sha256(script: str) -> str:
    """Return the digest of a script as a content security policy names it."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
