import pytest
from hypothesis import given
from hypothesis import strategies as st
from polaris_data import Difficulty, Histogram, ProblemFileError, histogram
from polaris_data.profile.shape import name_shape

# Digitised from the figures of the POLARIS report: problems solved 0, 1, ..., 8 times out of 8.
PUBLISHED_7B = (8877, 2583, 2070, 1839, 1852, 1900, 2530, 4513, 14183)
PUBLISHED_1_5B = (13829, 3741, 2969, 2844, 2784, 2465, 2558, 2813, 6102)
PUBLISHED_4B_BEFORE = (7336, 2485, 2203, 2345, 2455, 2993, 3453, 5039, 0)
PUBLISHED_4B_AFTER = (5167, 2175, 1857, 1830, 1882, 2168, 2521, 3625, 8120)
PUBLISHED_7B_BEFORE = (13163, 5970, 4707, 4360, 4233, 4895, 5256, 6800, 0)
PUBLISHED_7B_AFTER = (8199, 4168, 3461, 3215, 3264, 3464, 3970, 5203, 12023)


def difficulty(name, num_correct, num_samples=8, num_truncated=0, mean_tokens=10.0):
    return Difficulty(
        problem_id=name,
        num_samples=num_samples,
        num_correct=num_correct,
        num_truncated=num_truncated,
        mean_tokens=mean_tokens,
    )


@pytest.mark.parametrize(
    ("counts", "shape"),
    [
        (PUBLISHED_7B, "J"),
        (PUBLISHED_1_5B, "mirrored-J"),
        (PUBLISHED_4B_BEFORE, "mirrored-J"),
        (PUBLISHED_4B_AFTER, "J"),
        (PUBLISHED_7B_AFTER, "J"),
        (PUBLISHED_7B_BEFORE, "mirrored-J"),
        ((50, 5, 3, 2, 3, 2, 5, 8, 48), "U"),
        ((50, 5, 3, 2, 3, 2, 5, 8, 50), "U"),
        ((10, 10, 10, 10, 10), "other"),
        ((11, 10, 10, 10, 10), "other"),
        ((1, 5, 20, 5, 1), "other"),
        ((9, 0, 20, 0, 9), "other"),
        ((7, 0, 0, 0, 0), "mirrored-J"),
        ((0, 0, 0, 0, 7), "J"),
    ],
)
def test_shapes_are_named_as_the_report_names_them(counts, shape):
    assert name_shape(counts) == shape


def test_dropping_what_was_always_solved_turns_the_published_j_into_a_mirrored_j():
    kept = (*PUBLISHED_7B[:-1], 0)
    assert sum(kept) == 26164 and name_shape(kept) == "mirrored-J"


@given(st.lists(st.integers(0, 1000), min_size=2, max_size=17).filter(any))
def test_the_mirror_image_of_a_shape_has_the_mirrored_name(counts):
    mirrored = {"J": "mirrored-J", "mirrored-J": "J", "U": "U", "other": "other"}
    assert name_shape(tuple(reversed(counts))) == mirrored[name_shape(tuple(counts))]


@given(st.lists(st.integers(0, 4), min_size=1, max_size=50))
def test_a_histogram_counts_every_problem_once(corrects):
    counts = histogram(difficulty(str(number), k, 4) for number, k in enumerate(corrects))
    assert counts.counts == tuple(corrects.count(k) for k in range(5))
    assert counts.num_problems == len(corrects)
    assert counts.mean_accuracy == pytest.approx(sum(corrects) / 4 / len(corrects))
    assert counts.informative_share == sum(0 < k < 4 for k in corrects) / len(corrects)


@pytest.mark.parametrize("profile", [[], [difficulty("a", 3, 8), difficulty("b", 3, 4)]])
def test_an_empty_or_mixed_profile_has_no_histogram(profile):
    with pytest.raises(ProblemFileError, match="one number of samples"):
        histogram(profile)


def test_shares_add_up_and_all_derived_figures_are_data():
    counts = Histogram(PUBLISHED_7B)
    assert sum(counts.shares) == pytest.approx(1)
    assert counts.shares == pytest.approx((0.220, 0.428, 0.352), abs=5e-4)
    data = counts.to_data()
    assert data["shape"] == "J" and data["counts"] == list(PUBLISHED_7B) and data["warnings"] == []


@pytest.mark.parametrize(
    ("counts", "starts"),
    [
        ((10, 40, 50), []),
        ((0, 59, 41), ["too easy"]),
        ((0, 60, 40), []),  # a mean accuracy of exactly 0.7
        ((2, 1, 0), []),  # a third is informative
        ((3, 1, 0), ["few groups"]),
        ((0, 0, 9), ["too easy", "few groups"]),
    ],
)
def test_too_easy_and_uninformative_problems_are_warned_about(counts, starts):
    warnings = Histogram(counts).warnings
    assert len(warnings) == len(starts)
    assert all(warning.startswith(start) for warning, start in zip(warnings, starts, strict=True))
