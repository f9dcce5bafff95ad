"""The reports: what stands in them, and that the page works in a browser from a file."""

import json
import shutil
import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from polaris_eval.report.browser import MIN_TEXT_CHARS, browser_part
from polaris_eval.report.documents import write_reports
from polaris_eval.report.plots import draw_scores
from polaris_eval.scores.summary import summarize

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
OPTIONS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --enable-logging=stderr --virtual-time-budget=5000"
).split()
HOSTILE = "</script><script>document.title = 'broken'</script><!-- <script> & $x$ \\boxed{7}"


def write_evaluation(folder: Path, *, question: str | None = None) -> Path:
    evaluations: list[dict[str, Any]] = []
    for name in ("sums", "pro$ducts|_x"):
        records: list[dict[str, Any]] = [
            {
                "problem_id": f"p{number} <b>",
                "references": ["7"],
                "question": question,
                "completions": [
                    {
                        "text": HOSTILE + "x" * 4000 * (sample % 2),
                        "num_tokens": 10 + 4000 * (sample % 2),
                        "finish_reason": "stop",
                        "outcome": "correct" if sample <= number else "no_answer",
                        "answer": "7" if sample <= number else None,
                        "budgets": {"2000": "no_answer"} if sample % 2 else {},
                    }
                    for sample in range(4)
                ],
            }
            for number in range(3)
        ]
        (folder / name).mkdir(parents=True)
        lines = "".join(json.dumps(record) + "\n" for record in records)
        (folder / name / "completions.jsonl").write_text(lines, encoding="utf-8")
        evaluations.append(asdict(summarize(name, records)))
    content = {"model": "a <model>", "protocol": {"grader": {"name": "boxed"}}, "evaluations": evaluations}
    (folder / "scores.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def test_the_markdown_report_has_every_table_and_the_protocol(tmp_path: Path):
    markdown = write_reports(write_evaluation(tmp_path))[0].read_text(encoding="utf-8")
    assert markdown.startswith("# Evaluation of a <model>\n")
    assert "| sums | 3 | 4 | 50.0 [" in markdown
    assert r"| pro$ducts\|_x | 2,000 |" in markdown
    assert '"name": "boxed"' in markdown


def test_reports_are_the_same_twice_and_load_nothing(tmp_path: Path):
    first = [path.read_bytes() for path in write_reports(write_evaluation(tmp_path))]
    assert [path.read_bytes() for path in write_reports(tmp_path)] == first
    for loaded in (b"src=", b"<link", b"@import", b"url(http"):
        assert loaded not in first[1]


def test_scores_without_completions_still_make_a_page(tmp_path: Path):
    shutil.rmtree(write_evaluation(tmp_path) / "sums")
    page = write_reports(tmp_path)[1].read_text(encoding="utf-8")
    assert page.count('"name":') == 1
    assert "sums" in page


@pytest.mark.parametrize("outcome", ["correct", "incorrect"])
@pytest.mark.parametrize("num_problems", [1, 3, 7, 12, 30])
def test_problems_that_all_went_the_same_way_can_be_drawn(num_problems: int, outcome: str, tmp_path: Path):
    completion = {"text": "1", "outcome": outcome, "answer": "1", "num_tokens": 1, "finish_reason": "stop"}
    records = [{"problem_id": str(n), "references": ["1"], "completions": [completion]} for n in range(num_problems)]
    assert draw_scores([summarize("x", records)]).axes


def test_texts_too_long_for_a_page_lose_their_middle_and_it_is_counted():
    text = "a" * 30_000_000 + "z"
    completion = {"text": text, "outcome": "correct", "answer": "1", "num_tokens": None, "finish_reason": None}
    record = {"problem_id": "p", "references": ["1"], "completions": [completion]}
    part = browser_part({"x": [record] * 2})
    assert MIN_TEXT_CHARS < len(part) < 21_000_000
    data = json.loads(part.split('id="browser-data">')[1].split("</script>")[0])
    shown = data[0]["problems"][0]["completions"][0]
    assert len(shown["head"]) + len(shown["tail"]) + shown["cut"] == len(text)
    assert shown["tail"].endswith("z")


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium to open the page in")
def test_the_page_works_in_a_browser_from_a_file(tmp_path: Path):
    page = write_reports(write_evaluation(tmp_path / "out", question="What is <i>3 + 4</i>?"))[1]
    # A visitor who opens a completion and asks for all of its text.
    visit = """<script>
      document.querySelectorAll("#browser nav button")[1].click();
      const opened = document.querySelectorAll("#browser details")[1];
      opened.addEventListener("toggle", () => opened.querySelector("button").click());
      opened.open = true;
    </script></body>"""
    page.write_text(page.read_text(encoding="utf-8").replace("</body>", visit), encoding="utf-8")
    command = [str(CHROMIUM), *OPTIONS, f"--user-data-dir={tmp_path / 'chromium'}", "--dump-dom", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    dom = done.stdout
    assert "CONSOLE" not in done.stderr, done.stderr
    assert "<title>Evaluation of a &lt;model&gt;</title>" in dom
    browser = dom.split('<div id="browser">')[1].split('<script type="application/json"')[0]
    assert "What is &lt;i&gt;3 + 4&lt;/i&gt;?" in browser
    assert browser.count("<details") == 4
    assert '<span class="name">p1 &lt;b&gt;</span>2/4' in browser
    assert "&lt;/script&gt;&lt;script&gt;" in browser
    assert "x" * 4000 in browser
    assert dom.count("<svg") == 5
