"""The report's page in a browser: what it shows, and that its address shows the same again."""

import json
import random
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from polaris_eval.report.documents import write_reports
from polaris_eval.report.side_by_side import put_side_by_side, write_comparison_page
from polaris_eval.scores.summary import summarize

Visit = Callable[..., Any]
Record = dict[str, Any]

HOSTILE = "</script><script>document.title = 'broken'</script><!-- <script> & <img src=x onerror=alert(1)>"
OPEN_ALL = """all("#browser tbody tr")[0].click();
await until(() => all("#browser details").length);
for (const each of all("#browser details")) {
  each.open = true;
  await until(() => each.querySelector(".writing") && each.querySelector(".writing").textContent !== "unpacking ...");
}
"""


def completion(text: str = "1", outcome: str = "correct", *, finish: str = "stop", **more: Any) -> Record:
    answer = {"correct": "7", "incorrect": "8"}.get(outcome)
    graded = {"text": text, "outcome": outcome, "answer": answer, "num_tokens": 10 + len(text)}
    return {**graded, "finish_reason": finish, **more}


def write_page(folder: Path, records: list[Record], *, name: str = "set") -> Path:
    (folder / name).mkdir(parents=True)
    lines = "".join(json.dumps(record) + "\n" for record in records)
    (folder / name / "completions.jsonl").write_text(lines, encoding="utf-8")
    content = {"model": "a <model>", "protocol": {"seed": 0}, "evaluations": [asdict(summarize(name, records))]}
    (folder / "scores.json").write_text(json.dumps(content), encoding="utf-8")
    return write_reports(folder)[1]


def of_every_kind() -> list[Record]:
    """Problems among which every filter finds some, at random."""
    rng = random.Random(0)
    records: list[Record] = []
    for number in range(1, 25):
        kinds = rng.choice([["correct"], ["incorrect"], ["correct", "incorrect", "no_answer", "answer_timeout"]])
        group: list[Record] = []
        for sample in range(4):
            outcome = rng.choice(kinds) if number != 8 else "reference_rejected"
            finish = "length" if outcome == "no_answer" and rng.random() < 0.5 else "stop"
            second = {"grader": "other", "outcome": outcome if rng.random() < 0.8 else "correct"}
            text = f"{'walrus' if rng.random() < 0.2 else 'otter'} {'.' * rng.randrange(400)} {number} {sample}"
            group.append(completion(text, outcome, finish=finish, second=second))
        question = f"Question about {rng.choice(['cats', 'dogs'])}: $x^{number}$"
        records.append({"problem_id": f"q{number}", "question": question, "references": ["2"], "completions": group})
    return records


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_page(tmp_path_factory.mktemp("page") / "out", of_every_kind())


def is_right(each: Record) -> bool:
    return each["outcome"] == "correct"


def is_cut(each: Record) -> bool:
    return each["finish_reason"] == "length"


def is_unparsed(each: Record) -> bool:
    return each["outcome"] in ("no_answer", "answer_timeout") and not is_cut(each)


FILTERS: dict[str, Callable[[list[Record]], bool]] = {
    "": lambda group: True,
    "all-wrong": lambda group: {each["outcome"] for each in group}.isdisjoint({"correct", "reference_rejected"}),
    "all-right": lambda group: all(map(is_right, group)),
    "mixed": lambda group: 0 < sum(map(is_right, group)) < len(group),
    "incorrect": lambda group: any(each["outcome"] == "incorrect" for each in group),
    "truncated": lambda group: any(map(is_cut, group)),
    "unparsed": lambda group: any(map(is_unparsed, group)),
    "disagree": lambda group: any(is_right(each) != (each["second"]["outcome"] == "correct") for each in group),
    "stated": lambda group: any(
        not is_right(each) and not is_cut(each) and "2" in each["text"].split() for each in group
    ),
    "unreadable": lambda group: any(each["outcome"] == "reference_rejected" for each in group),
}


def test_problems_and_texts_are_there_and_what_was_written_is_only_text(tmp_path: Path, visit: Visit):
    completions = [completion(HOSTILE), completion(HOSTILE + "x" * 40_000, "no_answer", finish="length")]
    record = {"problem_id": "<b>p</b>", "question": HOSTILE, "references": [HOSTILE], "completions": completions}
    shown = visit(
        write_page(tmp_path / "out", [record], name="<i>set|_$x$"),
        OPEN_ALL + "return { writings: texts('.writing'), id: texts('td.id'), question: texts('.problem'),"
        "made: all('#browser :is(b, i.x, img, script)').length, title: document.title, bodies: all('body').length,"
        "notes: texts('.note') };",
    )
    assert shown == {
        "writings": [each["text"] for each in completions],
        "id": ["<b>p</b>"],
        "question": [HOSTILE],
        "made": 0,
        "title": "Evaluation of a <model>",
        "bodies": 1,
        "notes": ["cut by the token budget"],
    }


def test_filters_show_the_problems_that_they_name(page: Path, visit: Visit):
    records = of_every_kind()
    shown = visit(
        page,
        """const [filter] = all("#browser .bar select");
        const shown = {};
        for (const option of [...filter.options].map((each) => each.value)) {
          filter.value = option;
          filter.dispatchEvent(new Event("change"));
          await until(() => (new URLSearchParams(location.hash.slice(1)).get("filter") ?? "") === option);
          await new Promise((done) => setTimeout(done, 50));
          shown[option] = texts("#browser tbody .id");
        }
        return shown;""",
    )
    expected = {
        key: [record["problem_id"] for record in records if holds(record["completions"])]
        for key, holds in FILTERS.items()
    }
    assert shown == expected
    assert all(0 < len(chosen) < len(records) for key, chosen in shown.items() if key)


def test_what_is_sought_is_found_in_problems_and_where_asked_in_texts(page: Path, visit: Visit):
    records = of_every_kind()
    cats, walrus, open_walrus = visit(
        page,
        """const [search, inTexts] = all("#browser .bar input");
        search.value = "CATS"; search.dispatchEvent(new Event("input"));
        await until(() => location.hash.includes("CATS"));
        const cats = texts("#browser tbody .id");
        search.value = "Walrus"; search.dispatchEvent(new Event("input"));
        inTexts.checked = true; inTexts.dispatchEvent(new Event("input"));
        await until(() => location.hash.endsWith("search=Walrus&in=texts"));
        await until(() => texts("#browser .status")[0].endsWith("of 24 problems") && all("#browser tbody .id").length);
        await until(() => !texts("#browser .status")[0].startsWith("searching"));
        const walrus = texts("#browser tbody .id");
        all("#browser tbody tr")[0].click();
        await until(() => all("#browser details").length);
        all("#browser details")[0].open = true;
        await until(() => all("#browser mark").length);
        const listed = texts("#browser summary").map((each) => each.split(" ")[0]);
        return [cats, walrus, [listed, texts("#browser mark")]];""",
    )
    assert cats == [record["problem_id"] for record in records if "cats" in record["question"]]
    hits = {
        record["problem_id"]: [
            f"#{index}" for index, each in enumerate(record["completions"], 1) if "walrus" in each["text"]
        ]
        for record in records
    }
    assert walrus == [key for key, samples in hits.items() if samples]
    assert open_walrus == [hits[walrus[0]], ["walrus"]]


def test_a_click_on_a_heading_sorts_and_another_one_turns_it_around(page: Path, visit: Visit):
    records = of_every_kind()
    orders = visit(
        page,
        """const orders = {};
        for (const column of ["id", "right", "tokens", "cut"]) {
          for (const turn of ["up", "down"]) {
            all(`#browser th.${column} button`)[0].click();
            orders[`${column} ${turn}`] = texts("#browser tbody .number").map(Number);
          }
        }
        return orders;""",
    )
    measures: dict[str, Callable[[list[Record]], float]] = {
        "right": lambda group: sum(map(is_right, group)),
        "tokens": lambda group: sum(each["num_tokens"] for each in group),
        "cut": lambda group: sum(map(is_cut, group)),
    }
    numbers = range(1, len(records) + 1)
    expected = {"id up": [*numbers], "id down": [*reversed(numbers)]}
    for column, measure in measures.items():
        values = {number: measure(records[number - 1]["completions"]) for number in numbers}
        expected[f"{column} up"] = sorted(numbers, key=lambda number: (values[number], number))
        expected[f"{column} down"] = sorted(numbers, key=lambda number: (-values[number], number))
    assert orders == expected


def test_an_address_shows_the_same_again_and_back_goes_back(page: Path, visit: Visit):
    records = of_every_kind()
    unparsed = {
        number: [index for index, each in enumerate(record["completions"], 1) if is_unparsed(each)]
        for number, record in enumerate(records, 1)
    }
    number = next(number for number, samples in unparsed.items() if len(samples) > 1)
    sample = unparsed[number][1]
    first, away, back = visit(
        page,
        """const state = () => ({
          shown: texts("#browser tbody .id"), title: texts("#browser h3"), writing: texts("#browser .writing"),
          filter: all("#browser .bar select")[0].value, samples: all("#browser details").map((each) => each.id),
          open: all("#browser details[open]").map((each) => each.id),
        });
        const opened = () => texts("#browser .writing").some((each) => each !== "unpacking ...");
        await until(opened);
        const first = state();
        all("#browser .close")[0].click();
        await until(() => !all("#browser h3").length);
        const away = state();
        history.back();
        await until(opened);
        return [first, away, state()];""",
        fragment=f"#benchmark=set&problem=q{number}&sample={sample}&filter=unparsed&sort=-tokens",
    )
    assert first == back
    assert (away["title"], away["shown"], away["filter"]) == ([], first["shown"], "unparsed")
    assert first["title"] == [f"{number} · q{number}"]
    assert first["open"] == [f"sample-{sample}"]
    assert first["writing"] == [records[number - 1]["completions"][sample - 1]["text"]]
    assert first["samples"] == [f"sample-{index}" for index in unparsed[number]]
    said = visit(page, "return texts('#browser .status');", fragment="#benchmark=set&problem=nobody&filter=nothing")
    assert said == ['no problem "nobody" here, no filter "nothing" here; 24 of 24 problems']


def test_a_cell_of_the_heat_map_opens_the_completion_of_its_number(page: Path, visit: Visit):
    records = of_every_kind()
    address, title, number, text = visit(
        page,
        """document.getElementById("browser").scrollIntoView();
        await until(() => all("#browser .cells").length > 4);
        const cells = all("#browser .cells")[4];
        const box = cells.getBoundingClientRect();
        const at = { clientX: box.left + box.width * 0.6, clientY: box.top + 5, bubbles: true };
        cells.dispatchEvent(new PointerEvent("pointermove", at));
        const { title } = cells;
        cells.dispatchEvent(new MouseEvent("click", at));
        await until(() => texts("#browser details[open] .writing").some((each) => each !== "unpacking ..."));
        const [number] = texts("#browser [aria-current=true] .number");
        return [location.hash, title, number, texts("#browser .writing")[0]];""",
    )
    chosen = records[4]["completions"][2]
    assert address == "#benchmark=set&problem=q5&sample=3"
    assert title.startswith(f"#3 · {chosen['outcome'].replace('_', ' ')}")
    assert (number, text) == ("5", chosen["text"])


MONSTERS = [
    r"$\def\a{\a\a}\a$",
    r"$\gdef\a#1{#1#1}\a{\a{\a{x}}}$",
    "$" + r"\sqrt" * 400 + " x$",
    "$" + r"\frac{1}{" * 60 + "x" + "}" * 60 + "$",
    "$" + "{" * 700 + "$",
    r"$\frac{$ and \(\unknown\) and \[x",
    r"\begin{align} a &= b \\ " * 40,
]
LINKS = r"$\href{javascript:alert(1)}{x} \htmlClass{a}{b} \includegraphics{http://localhost/x.png}$"


def test_formulas_are_typeset_and_what_is_none_stays_as_it_was_written(tmp_path: Path, visit: Visit):
    text = "It costs $5 and not $6 \\$7. Let $a+b$, \\(c\\), $$d$$ and\n\\[e\\]\nor \\boxed{\\frac{1}{2}}."
    completions = [completion(each) for each in [text, *MONSTERS, LINKS, "\n\n".join(MONSTERS)]]
    record = {"problem_id": "p", "references": ["7"], "completions": completions}
    first, formulas, depth, monsters, links = visit(
        write_page(tmp_path / "out", [record]),
        OPEN_ALL
        + """const depth = (each) => 1 + Math.max(0, ...[...each.children].map(depth));
        const [first] = all("#browser .writing");
        await until(() => first.querySelector(".katex"));
        const formulas = [...first.querySelectorAll("annotation")].map((each) => each.textContent);
        first.querySelectorAll(".katex").forEach((each) => each.replaceWith("@"));
        return [first.textContent, formulas, Math.max(...all("#browser .writing").map(depth)),
          texts("#browser .writing").slice(1, 8), all(".writing a, .writing img, .writing .a").length];""",
    )
    assert first == "It costs $5 and not $6 \\$7. Let @, @, @ and\n@\nor @."
    assert formulas == ["a+b", "c", "d", "e", "\\boxed{\\frac{1}{2}}"]
    assert depth < 160
    assert monsters == MONSTERS
    assert links == 0


@pytest.mark.parametrize("fragment", ["", "#benchmark=set&problem=q3&sample=2"])
def test_nothing_is_wider_than_a_telephone(fragment: str, tmp_path: Path, visit: Visit):
    records = of_every_kind()
    records[2]["completions"][1]["text"] = "w" * 500 + " $" + "x + " * 200 + "y$"
    widths = visit(
        write_page(tmp_path / "out", records),
        ("await until(() => all('.katex').length);" if fragment else "")
        + "return [document.documentElement.scrollWidth, innerWidth];",
        fragment=fragment,
        width=390,
    )
    assert widths == [390, 390]


def test_two_evaluations_are_a_table_of_problems_that_links_to_both(tmp_path: Path, visit: Visit):
    before = write_page(tmp_path / "a", of_every_kind())
    records = of_every_kind()
    for record in records[:6]:
        record["completions"][0]["outcome"] = "correct"
    after = write_page(tmp_path / "b", records)
    page = tmp_path / "both.html"
    write_comparison_page(page, put_side_by_side(before.parent, after.parent))
    rows, fewer, order, link = visit(
        page,
        """const rows = all("#problems tbody tr").map((row) => [...row.cells].map((each) => each.textContent));
        const choice = document.getElementById("choice");
        choice.value = "1"; choice.dispatchEvent(new Event("change"));
        const fewer = all("#problems tbody tr:not([hidden]) td:nth-child(2)").map((each) => each.textContent);
        all("#problems th button")[3].click();
        const order = all("#problems tbody td:nth-child(4)").map((each) => each.textContent);
        return [rows, fewer, order, all("#problems a")[1].href];""",
    )
    changed = {
        record["problem_id"]
        for record, old in zip(records, of_every_kind(), strict=True)
        if record["completions"] != old["completions"]
    }
    assert 0 < len(changed) < 6
    assert set(fewer) == changed
    assert {tuple(row[1:2]) for row in rows if row[4] == "+25.0"} == {(key,) for key in changed}
    assert len(rows) == len(records)
    assert order == ["?", *sorted(order[1:])]
    shown = visit(after, "return texts('#browser h3');", fragment="#" + link.split("#")[1])
    assert link.startswith(after.as_uri()) and shown[0].split(" · ")[1] in {row[1] for row in rows}
