"""The reports: what stands in them."""

import base64
import gzip
import itertools
import json
import re
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from polaris_eval.benchmarks import PRESETS
from polaris_eval.report.browser import COLORS, MAX_PAGE_CHARS, browser_part
from polaris_eval.report.documents import write_reports
from polaris_eval.report.plots import draw_scores
from polaris_eval.running.protocol import protocol_hash
from polaris_eval.scores.summary import summarize

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
    assert f"Protocol {protocol_hash({'grader': {'name': 'boxed'}})}, grader boxed" in markdown.split("##")[0]


@pytest.mark.parametrize(("model", "stands"), [("org/POLARIS-4B-Preview", True), ("org/other", False)])
def test_a_published_figure_stands_in_both_reports_beside_its_model_and_settings(
    tmp_path: Path, model: str, stands: bool
):
    out, preset = write_evaluation(tmp_path), PRESETS["polaris-4b"]
    shared = {name: getattr(preset, name) for name in ("temperature", "top_p", "top_k", "max_tokens", "suffix")}
    own = {"aime24": {"num_problems": 30, "num_samples": 32}, "aime25": {"num_problems": 30, "num_samples": 8}}
    content = json.loads((out / "scores.json").read_text(encoding="utf-8"))
    content["protocol"] = {"model": model, **shared, "benchmarks": own}
    (out / "scores.json").write_text(json.dumps(content), encoding="utf-8")
    markdown, page = (path.read_text(encoding="utf-8") for path in write_reports(out))
    line = "aime24: 81.2 is published for POLARIS-4B-Preview in these settings"
    assert (line in markdown.split("## pass@k")[0]) == (line in page) == stands
    assert "aime25: 79.4" not in markdown + page  # published for 32 samples


def test_reports_are_the_same_twice_and_load_nothing(tmp_path: Path):
    first = [path.read_bytes() for path in write_reports(write_evaluation(tmp_path))]
    assert [path.read_bytes() for path in write_reports(tmp_path)] == first
    policy = re.findall(rb'<meta http-equiv="Content-Security-Policy" content="([^"]*)">', first[1])
    assert len(policy) == 1
    assert policy[0].startswith(b"default-src 'none';")
    assert b"http" not in policy[0]


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
    text = "a" * MAX_PAGE_CHARS + "z"
    records = [{"problem_id": "p", "references": ["1"], "completions": [completion(text), completion("short")]}]
    part = browser_part({"x": records})
    assert index_of(part)[0]["problems"][0]["completions"][0]["left_out"] == MAX_PAGE_CHARS // 2 + 1
    (pack,) = re.findall(r'id="pack-0-0">([^<]*)<', part)
    shown, short = json.loads(gzip.decompress(base64.b64decode(pack)))
    assert short == "short"
    gap = f"[... {MAX_PAGE_CHARS // 2 + 1:,} characters are in completions.jsonl only ...]"
    assert gap in shown
    assert len(shown) == MAX_PAGE_CHARS // 2 + len(gap) + 4
    assert shown.endswith("az")


def test_texts_are_in_the_page_whole_and_packed():
    records = [{"problem_id": "p", "references": ["1"], "completions": [completion(text="a \ud800 </script>" * 9999)]}]
    part = browser_part({"x": records})
    assert len(part) < len(browser_part({})) + 2_000
    (pack,) = re.findall(r'id="pack-0-0">([^<]*)<', part)
    assert json.loads(gzip.decompress(base64.b64decode(pack))) == [records[0]["completions"][0]["text"]]


@pytest.mark.parametrize(
    ("text", "outcome", "finish", "references", "expected"),
    [
        ("The answer is 42.", "no_answer", "stop", ["42"], True),
        ("So x = \\frac{1}{2}.", "incorrect", "stop", ["0.5", "\\frac{1}{2}"], True),
        ("The answer is 42.", "correct", "stop", ["42"], False),
        ("Perhaps 42", "no_answer", "length", ["42"], False),
        ("It is 42.5 or 142, x42", "incorrect", "stop", ["42"], False),
        ("42" + " " * 400, "incorrect", "stop", ["42"], False),
        ("nothing", "incorrect", "stop", [" "], False),
    ],
)
def test_a_reference_at_the_end_of_what_is_not_correct_is_marked(
    text: str, outcome: str, finish: str, references: list[str], expected: bool
):
    record = {"problem_id": "p", "references": references, "completions": [completion(text, outcome, finish=finish)]}
    assert index_of(browser_part({"x": [record]}))[0]["problems"][0]["completions"][0].get("stated", False) == expected


def test_colours_stay_apart_for_eyes_without_one_kind_of_cone():
    # Vienot, Brettel and Mollon, "Digital video colourmaps for checking the legibility of displays by dichromats",
    # 1999: what is left of linear red, green and blue without the long or the middle cones.
    no_long = np.array([[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]])
    no_middle = np.array([[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]])
    rgb = np.array([[int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)] for color in COLORS.values()])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    for seen in (linear, linear @ no_long.T, linear @ no_middle.T):
        lab = to_lab(seen)
        for one, other in itertools.combinations(range(len(lab)), 2):
            assert np.linalg.norm(lab[one] - lab[other]) > 15, (list(COLORS)[one], list(COLORS)[other])


def to_lab(linear: Any) -> Any:
    matrix = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    cubes = np.cbrt(np.clip(linear, 0, 1) @ matrix.T / np.array([0.9505, 1, 1.089]))
    x, y, z = cubes.T
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)]).T


def completion(text: str = "1", outcome: str = "correct", *, finish: str = "stop", **more: Any) -> dict[str, Any]:
    answer = {"correct": "7", "incorrect": "8"}.get(outcome)
    return {
        "text": text,
        "outcome": outcome,
        "answer": answer,
        "num_tokens": 10 + len(text),
        "finish_reason": finish,
    } | more


def index_of(part: str) -> Any:
    return json.loads(part.split('id="browser-data">')[1].split("</script>")[0])
