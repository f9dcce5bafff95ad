import pytest
from polaris_reward.files.lines import BATCH, BATCH_BYTES, Row, in_batches
from polaris_reward.finding.references import to_references


@pytest.mark.parametrize(
    ("value", "references"),
    [
        ("7", ("7",)),
        (" 7\n", ("7",)),
        ("", ("",)),
        (7, ("7",)),
        (-7, ("-7",)),
        (10**400, ("1" + "0" * 400,)),
        (7.0, ("7",)),
        (0.5, ("0.5",)),
        (1e20, ("100000000000000000000",)),
        (1e-7, ("0.0000001",)),
        (["6", 7, 0.5], ("6", "7", "0.5")),
        (("6", "7"), ("6", "7")),
        ([], ()),
        (None, None),
        (True, None),
        (float("nan"), None),
        (float("inf"), None),
        ({"7": 1}, None),
        (["7", None], None),
        ([["7"]], None),
    ],
)
def test_references_are_strings_numbers_or_lists_of_them(value: object, references: tuple[str, ...] | None) -> None:
    assert to_references(value) == references


def row(num_bytes: int) -> Row:
    return Row(where="f:1", line=1, num_bytes=num_bytes, fields={})


def test_a_batch_ends_at_a_number_of_rows_or_of_bytes() -> None:
    sizes = [len(batch) for batch in in_batches([(row(1), None)] * (2 * BATCH + 1))]
    assert sizes == [BATCH, BATCH, 1]
    sizes = [len(batch) for batch in in_batches([(row(BATCH_BYTES // 2), None)] * 5)]
    assert sizes == [2, 2, 1]
