import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from polaris_reward.equality.realset import equal_sets, real_set
from polaris_reward.reading.parser import parse

SAME = [
    ["[0,1)", r"\left[ 0, 1 \right)", r"0 \le x < 1", "1 > x >= 0", r"x \ge 0 \text{ and } x < 1"],
    ["(1,2)", "1<x<2", "2>x>1", r"x>1, x<2", r"x \in (1,2)", r"\{x \mid 1 < x < 2\}"],
    ["x<3", "3>x", r"(-\infty,3)", "2x<6", "x-3<0", "-x>-3", "x+1<4"],
    [r"\mathbb{R}", r"(-\infty,\infty)", r"-\infty<x<\infty"],
    [r"x \ne 0", r"(-\infty,0) \cup (0,\infty)", r"\mathbb{R} \setminus \{0\}", r"x<0 \text{ or } x>0"],
    [r"[1,2] \cup [2,3]", "[1,3]", r"[1,3] \cup \{2\}", r"[1,5] \cap [0,3]"],
    [r"\{1,2\} \cap \{2,3\}", r"\{2\}", "[2,2]"],
    [r"(0,1) \cup (2,3)", r"(2,3) \cup (0,1)", r"(0,3) \setminus [1,2]", r"0<x<1 \text{ or } 2<x<3"],
    [r"(0,1) \cap (2,3)", r"\{1\} \setminus \{1\}"],
    [r"(\frac{1}{2}, \sqrt{4}]", "(0.5, 2]"],
]  # fmt: skip
"""Sets in several notations each; no two of these lists are equal."""


@pytest.mark.parametrize("notations", SAME, ids=[notations[0] for notations in SAME])
def test_a_set_is_itself_in_every_notation(notations: list[str]) -> None:
    assert all(same(one, other) for one, other in itertools.product(notations, repeat=2))


def test_different_sets_are_never_equal() -> None:
    sets = [notations[0] for notations in SAME] + [
        "[0,1]", "(0,1)", "(0,1]", r"x \le 3", "x>3", r"(1,2) \cup (2,3)", "(1,3)", r"\mathbb{R} \setminus \{1\}",
        r"[0,\infty)", r"(0,\infty)", "(0,1.0000001)", r"(\frac{1}{2}, 2)", r"\{0,1\}", r"\{1,2\}",
        r"x<0 \text{ or } x \ge 0.1",
    ]  # fmt: skip
    alike = [(one, other) for one, other in itertools.combinations(sets, 2) if same(one, other)]
    assert alike == []


@pytest.mark.parametrize("text", ["(1,2,3)", "x=5", "x^2<4", "x+y<1", "(x,y)", "5", "x^3<x", "[[1,2],[3,4]]"])
def test_what_is_no_union_of_intervals_is_not_read_as_one(text: str) -> None:
    assert real_set(parse(text)) is None


@pytest.mark.parametrize(
    ("text", "near_misses"),
    [
        ("|x|<3", ["x<3", "x>-3"]),
        (r"|x-2| \le 1", [r"x \ge 1", r"x \le 3"]),
        (r"|x| \ge 2", [r"x \ge 2"]),
        (r"\lfloor x \rfloor < 3", [r"x \le 3"]),
        ("x(x-1)(x-2) + x < 3", ["x<3"]),
    ],
)
def test_an_inequality_that_looks_linear_at_a_few_points_is_not_taken_for_a_ray(
    text: str, near_misses: list[str]
) -> None:
    assert not any(real_set(parse(text)) is not None and same(text, one) for one in near_misses)


ends = st.integers(-4, 4)
intervals = st.builds(
    lambda low, length, opening, closing: f"{opening}{low}, {low + length}{closing}",
    ends,
    st.integers(1, 4),
    st.sampled_from("(["),
    st.sampled_from(")]"),
)
unions = st.lists(intervals, min_size=1, max_size=4)


@given(unions, unions, st.sampled_from([r"\cup", r"\cap", r"\setminus"]))
def test_sets_are_equal_if_and_only_if_they_have_the_same_members(
    left: list[str], right: list[str], operator: str
) -> None:
    # Halves suffice: every end is a whole number.
    places = [place / 2 for place in range(-20, 21)]
    joined_left, joined_right = r" \cup ".join(left), r" \cup ".join(right)
    alike = [is_in(place, left) for place in places] == [is_in(place, right) for place in places]
    assert same(joined_left, joined_right) is alike
    combined = f"{left[0]} {operator} {right[0]}"
    members = [combine(operator, is_in(place, left[:1]), is_in(place, right[:1])) for place in places]
    assert same(combined, joined_right) is (members == [is_in(place, right) for place in places])


def is_in(place: float, union: list[str]) -> bool:
    for interval in union:
        low, high = (int(end) for end in interval[1:-1].split(","))
        above = place >= low if interval[0] == "[" else place > low
        below = place <= high if interval[-1] == "]" else place < high
        if above and below:
            return True
    return False


def combine(operator: str, left: bool, right: bool) -> bool:
    return {r"\cup": left or right, r"\cap": left and right, r"\setminus": left and not right}[operator]


def same(one: str, other: str) -> bool:
    left, right = real_set(parse(one)), real_set(parse(other))
    assert left is not None
    assert right is not None
    return equal_sets(left, right)
