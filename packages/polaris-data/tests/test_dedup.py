import json
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polaris_data import Problem, read_problems
from polaris_data.duplicates.answers import graded_the_same, written_the_same
from polaris_data.duplicates.dedup import decide, find_duplicates, write_deduplicated
from polaris_data.problems.synthetic import synthetic_problems

TEMPLATES = (
    "A farmer has {n} red hens and {m} white geese. How many birds does the farmer have?",
    "Given a farmer with {n} red hens and {m} white geese, find how many birds the farmer has.",
    "Let $x^{{2}} + {n}x = {m}$. Find the largest real solution $x$ of this equation.",
    r"Let \(x^2+{n} x={m}\). Determine the largest real solution \(x\) of this equation.",
    "Let $x^2 + {n}x = {m}$. Find the smallest real solution $x$ of this equation.",
    "In how many ways can the letters of the word MADAM be arranged? {n} {m}",
)
NUMBERS = st.sampled_from([3, 4, 70])
PROBLEMS = st.lists(
    st.tuples(st.sampled_from(TEMPLATES), NUMBERS, NUMBERS, st.sampled_from(["1", "2", "$1$"]), st.sampled_from("ab")),
    max_size=25,
).map(
    lambda rows: [
        Problem(
            problem_id=f"p{number}",
            question=template.format(n=n, m=m),
            references=(answer,),
            source=source,
            extra={"a": 1} if number % 3 else {},
        )
        for number, (template, n, m, answer, source) in enumerate(rows)
    ]
)


def problem(name, question, answer="1", source="", **extra):
    return Problem(problem_id=name, question=question, references=(answer,), source=source, extra=extra)


def groups(clusters):
    return {frozenset(member.problem_id for member in cluster.members) for cluster in clusters}


@settings(deadline=None, max_examples=30)
@given(PROBLEMS, st.booleans())
def test_every_problem_is_kept_or_dropped_once(problems, drop_conflicts):
    clusters = find_duplicates(problems)
    members = [member.problem_id for cluster in clusters for member in cluster.members]
    assert len(members) == len(set(members))
    assert all(len(cluster.members) > 1 for cluster in clusters)
    dropped = decide(clusters, drop_conflicts=drop_conflicts)
    kept = [problem for problem in problems if problem.problem_id not in dropped]
    assert len(kept) + sum(Counter(dropped.values()).values()) == len(problems)
    conflicts = sum(cluster.conflict for cluster in clusters) if drop_conflicts else 0
    assert len(dropped) == len(members) - len(clusters) + conflicts


@settings(deadline=None, max_examples=30)
@given(PROBLEMS, st.randoms())
def test_the_order_decides_at_most_which_member_is_kept(problems, rng):
    shuffled = list(problems)
    rng.shuffle(shuffled)
    assert groups(find_duplicates(problems)) == groups(find_duplicates(shuffled))


def test_the_number_of_processes_does_not_matter():
    problems = [
        problem(f"p{n}", template.format(n=n % 70, m=n % 11)) for n in range(700) for template in TEMPLATES[n % 6 :][:1]
    ]
    assert find_duplicates(problems, num_processes=2) == find_duplicates(problems)


HENS = TEMPLATES[0].format(n=3, m=4)


def test_the_kept_one_is_preferred_then_agreed_upon_then_rich_then_first():
    def kept(*problems, **options):
        (cluster,) = find_duplicates(problems, **options)
        return cluster.kept, cluster.why

    first, rich, other = problem("first", HENS), problem("rich", HENS, level=1), problem("other", HENS, source="s")
    wrong = problem("wrong", HENS, answer="8", level=1, topic=2)
    assert kept(first, other) == ("first", "first in the set")
    assert kept(first, rich) == ("rich", "most metadata")
    assert kept(wrong, first, other) == ("first", "first in the set")
    assert kept(wrong, first, rich) == ("rich", "most metadata")
    assert kept(wrong, replace(wrong, problem_id="wrong2"), first) == ("wrong", "first in the set")
    assert kept(wrong, rich, other, prefer=["none", "s"]) == ("other", "preferred source")


def test_agreement_alone_can_decide():
    (cluster,) = find_duplicates([problem("a", HENS, "8"), problem("b", HENS, "7", x=1), problem("c", HENS, "8")])
    assert (cluster.kept, cluster.conflict) == ("a", True)


def test_conflicting_answers_are_reported_and_can_be_dropped(tmp_path):
    problems = [
        problem("a", HENS, "7"),
        problem("b", f"{HENS} ", "8"),
        problem("c", TEMPLATES[1].format(n=3, m=4), "7"),
    ]
    problems.append(problem("d", "What is $2 + 2$?"))
    clusters = find_duplicates(problems)
    assert [cluster.conflict for cluster in clusters] == [True]
    counts = write_deduplicated(tmp_path / "keep", problems, clusters, drop_conflicts=False)
    assert list(counts.values()) == [2, 1, 1, 0, 0]
    assert [each.problem_id for each in read_problems(tmp_path / "keep" / "problems.jsonl")] == ["a", "d"]
    counts = write_deduplicated(tmp_path / "drop", problems, clusters, drop_conflicts=True)
    assert (counts["kept"], counts["conflicting answers"]) == (1, 3)
    (line,) = (tmp_path / "drop" / "clusters.jsonl").read_text().splitlines()
    members = json.loads(line)["members"]
    assert [(each["problem_id"], each["duplicate_of"], each["kind"]) for each in members] == [
        *(("a", None, None), ("b", "a", "exact"), ("c", "a", "near")),
    ]


def test_answers_may_be_compared_by_another_rule():
    problems = [problem("a", HENS, "0.5"), problem("b", HENS, "1/2")]
    assert find_duplicates(problems, same_answers=written_the_same)[0].conflict
    assert not find_duplicates(problems, same_answers=graded_the_same)[0].conflict


def test_every_member_is_the_same_as_the_kept_one_and_a_chain_is_cut():
    chain = [(0, 1), (1, 2), (2, 3), (3, 4)]
    problems = [problem(f"p{number}", f"{'word ' * number}{number}?", str(number)) for number in range(5)]
    clusters = find_duplicates(problems, similar=lambda questions: [(a, b, 0.95) for a, b in chain])
    linked = {frozenset((f"p{a}", f"p{b}")) for a, b in chain}
    for cluster in clusters:
        assert all({cluster.kept, each.problem_id} in linked for each in cluster.members if each.kind)
    assert sum(len(cluster.members) for cluster in clusters) in (4, 5) and len(clusters) == 2


def test_a_preferred_source_is_kept_only_if_every_other_member_equals_it():
    problems = [problem(name, f"Question {name} of its own?", name, source=name) for name in "abc"]
    (cluster,) = find_duplicates(problems, prefer=["a"], similar=lambda questions: [(0, 1, 0.9), (1, 2, 0.9)])
    assert (cluster.kept, cluster.why) == ("b", "the only one that every other equals")


def test_of_templated_problems_few_are_lost():
    problems = synthetic_problems(600, seed=0, split="train")
    clusters = find_duplicates(problems)
    assert sum(len(cluster.members) - 1 for cluster in clusters) <= 0.1 * len(problems)
    assert max(len(cluster.members) for cluster in clusters) <= 10


def test_a_common_answer_in_a_family_with_other_answers_is_a_coincidence():
    others = [problem(f"o{number}", f"other{number} question{number}?", "5") for number in range(100)]
    family = [
        problem(verb, f"Ada has 9 stamps and gives {verb} 4. How many stamps has Ada now?", answer)
        for verb, answer in [("away", "5"), ("Tom", "5"), ("back", "13"), ("none", "9"), ("it", "36")]
    ]
    assert find_duplicates([*others, *family]) == []
    assert groups(find_duplicates([*others, *family[:2]])) == {frozenset({"away", "Tom"})}


def test_pairs_of_another_kind_join_clusters():
    problems = [problem(name, f"What is ${number} + {number}$?") for name, number in zip("abc", (2, 3, 4), strict=True)]
    (cluster,) = find_duplicates(problems, similar=lambda questions: [(0, len(questions) - 1, 0.95)])
    assert [member.problem_id for member in cluster.members] == ["a", "c"]
    assert decide([cluster]) == {"c": "similar embedding"}


@pytest.mark.parametrize("count", [0, 1])
def test_small_sets_have_no_duplicates(count):
    assert find_duplicates([problem("a", HENS)][:count]) == []
