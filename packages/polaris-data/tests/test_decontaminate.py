import json
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st
from polaris_data import Problem, read_problems
from polaris_data.duplicates.decontaminate import find_contamination, write_decontaminated

BENCHMARK = (
    "Alice has {n} boxes in a row on a long table. Each box has {m} stones of weight ${n}^2$. What is the total weight?"
)
STORY = (
    "Meanwhile Bob, whose brother is a famous sculptor living near Lake Geneva, paints several old wooden chairs "
    "green, feeds three hungry cats, waters tomatoes behind the garage, repairs bicycles for neighbours, bakes "
    "bread, writes poems about autumn storms, and practises the violin until midnight, which changes nothing. "
    "Yesterday an elderly captain sailed past foggy islands carrying coffee, pepper, cotton, copper kettles, silk "
    "umbrellas, parrots and letters to his beloved sister whom winter had trapped inside a monastery among snowy "
    "mountains guarded by wolves, dragons, soldiers and giants."
)
TEMPLATES = (
    BENCHMARK,
    BENCHMARK.replace("Alice", "Dora").replace("What is", "Determine"),
    "Let $x^{{2}} + {n}x = {m}$. Find the largest real solution $x$ of this equation.",
    "How many primes are between {n} and {m}?",
    f"{BENCHMARK} {STORY}",
)


def problem(name, question, answer="1"):
    return Problem(problem_id=name, question=question, references=(answer,))


def findings(questions, answer="1"):
    problems = [problem(f"p{number}", question) for number, question in enumerate(questions)]
    return list(find_contamination(problems, {"bench": [problem("b0", BENCHMARK.format(n=7, m=9), answer)]}))


def kinds(questions, answer="1"):
    return [finding and finding.kind for finding in findings(questions, answer)]


def test_equal_reworded_and_surrounded_problems_are_found():
    assert kinds(template.format(n=7, m=9) for template in TEMPLATES) == ["exact", "near", None, None, "inside"]


def test_a_problem_that_repeats_a_benchmark_problem_is_found_whatever_its_answer():
    asked = BENCHMARK.format(n=7, m=9).replace("What is the total weight?", "The total weight is $k$. What is $k + 1$?")
    assert kinds([TEMPLATES[4].format(n=7, m=9), asked], answer="2") == ["inside", "inside"]


def test_what_is_close_and_another_problem_is_told_apart_by_what_differs():
    other = BENCHMARK.format(n=7, m=9).replace("total weight", "number of stones")
    close = findings([BENCHMARK.format(n=7, m=8), other], answer="2")
    assert [(each.kind, each.difference) for each in close] == [
        ("close", "another number"),
        ("close", "another answer"),
    ]
    assert all(each.num_shared_passages > 0 for each in close)


def test_answers_are_graded():
    reworded = TEMPLATES[1].format(n=7, m=9)
    graded = find_contamination(
        [problem("p", reworded, r"\frac{1}{2}")], {"bench": [problem("b", BENCHMARK.format(n=7, m=9), "0.5")]}
    )
    assert [finding and finding.kind for finding in graded] == ["near"]


def test_a_finding_names_what_it_was_found_in():
    benchmarks = {
        "one": [problem("x", "How many primes are there below 100?")],
        "two": [problem("y", BENCHMARK.format(n=7, m=8)), problem("z", BENCHMARK.format(n=7, m=9))],
    }
    (finding,) = find_contamination([problem("p", BENCHMARK.format(n=7, m=9))], benchmarks)
    assert finding and (finding.benchmark, finding.benchmark_id, finding.kind, finding.score) == (
        "two",
        "z",
        "exact",
        1,
    )
    assert finding.num_shared_passages > 5


NUMBERS = st.sampled_from([3, 4, 70])
PROBLEMS = st.lists(st.tuples(st.sampled_from(TEMPLATES), NUMBERS, NUMBERS, st.sampled_from("12")), max_size=20).map(
    lambda rows: [
        problem(f"p{place}", text.format(n=n, m=m), answer) for place, (text, n, m, answer) in enumerate(rows)
    ]
)


@settings(deadline=None, max_examples=25)
@given(PROBLEMS, PROBLEMS, st.booleans(), st.randoms())
def test_every_problem_is_kept_or_dropped_once_whatever_the_order(
    tmp_path_factory, problems, benchmark, drop_shared_passages, rng
):
    folder = tmp_path_factory.mktemp("clean")
    options = {"drop_shared_passages": drop_shared_passages}
    counts = write_decontaminated(folder, lambda: problems, {"bench": benchmark}, **options).by_kind
    assert sum(counts.values()) == len(problems)
    kept = [json.loads(line)["problem_id"] for line in (folder / "problems.jsonl").open()]
    found = [json.loads(line) for line in (folder / "findings.jsonl").open()]
    dropped = [finding["problem_id"] for finding in found if finding["dropped"]]
    assert sorted(kept + dropped) == sorted(each.problem_id for each in problems)
    assert Counter(f["kind"] for f in found if f["dropped"]) == Counter(
        {kind: count for kind, count in counts.items() if kind != "kept" and count}
    )
    rng.shuffle(problems)
    rng.shuffle(benchmark)
    assert write_decontaminated(folder, lambda: problems, {"bench": benchmark}, **options).by_kind == counts
    left = [each for each in problems if each.problem_id in kept]
    again = write_decontaminated(folder, lambda: left, {"bench": benchmark}, **options).by_kind
    assert again["kept"] == len(left)


def test_the_number_of_processes_does_not_matter():
    problems = [problem(f"p{n}", TEMPLATES[n % 5].format(n=n % 70, m=9)) for n in range(1500)]
    benchmarks = {"bench": [problem("b", BENCHMARK.format(n=7, m=9))]}
    assert list(find_contamination(problems, benchmarks, num_processes=2)) == list(
        find_contamination(problems, benchmarks)
    )


def test_what_is_kept_reads_back_as_it_was(tmp_path):
    problems = [problem("a", BENCHMARK.format(n=7, m=9)), problem("b", TEMPLATES[3].format(n=1, m=9))]
    counts = write_decontaminated(tmp_path, lambda: problems, {"bench": problems[:1]}).by_kind
    assert read_problems(tmp_path / "problems.jsonl") == problems[1:]
    written = json.loads((tmp_path / "counts.json").read_text())
    assert written == {"num_problems": 2, **counts, "kept_though_close": {}}
