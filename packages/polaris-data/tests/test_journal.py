import json

import pytest
from polaris_data import Journal, OtherRunError
from polaris_data.files.journal import check_output, claim, claim_output, settings_path, write_text


def test_records_survive_a_restart_and_are_sorted_when_finished(tmp_path):
    path = tmp_path / "out" / "r.jsonl"
    journal = Journal(path)
    journal.append({"n": 2})
    assert not path.exists()
    journal = Journal(path)
    assert journal.records == [{"n": 2}] and not journal.finished
    journal.extend([{"n": 3}, {"n": 1}])
    journal.finish(lambda record: record["n"])
    assert path.read_text() == '{"n": 1}\n{"n": 2}\n{"n": 3}\n'
    assert [file.name for file in path.parent.iterdir()] == ["r.jsonl"]


@pytest.mark.parametrize("torn", ['{"n": 3', '{"n": 3}', "\x00", '{"n": "\u00e9'])
def test_a_last_line_cut_short_is_removed_and_writing_goes_on(tmp_path, torn):
    path = tmp_path / "r.jsonl"
    Journal(path).append({"n": 1})
    with (tmp_path / "r.jsonl.partial").open("a", encoding="utf-8") as file:
        file.write(torn)
    journal = Journal(path)
    assert journal.records == [{"n": 1}]
    journal.append({"n": 2})
    assert Journal(path).records == [{"n": 1}, {"n": 2}]


def test_a_finished_journal_is_read_back_and_takes_no_more(tmp_path):
    path = tmp_path / "r.jsonl"
    journal = Journal(path)
    journal.append({"text": "line\u2028separator\r\n"})
    journal.finish(lambda record: 0)
    journal = Journal(path)
    assert journal.finished and journal.records == [{"text": "line\u2028separator\r\n"}]
    with pytest.raises(ValueError, match="complete"):
        journal.append({})


def test_a_partial_file_beside_a_finished_one_is_removed(tmp_path):
    (tmp_path / "r.jsonl").write_text('{"n": 1}\n')
    (tmp_path / "r.jsonl.partial").write_text('{"n": 1}\n')
    assert Journal(tmp_path / "r.jsonl").finished
    assert [file.name for file in tmp_path.iterdir()] == ["r.jsonl"]


def test_the_same_settings_claim_an_output_again(tmp_path):
    settings = {"model": "tiny", "levels": (1, 2), "context": None}
    claim(tmp_path / "s.json", settings)
    claim(tmp_path / "s.json", settings)
    assert json.loads((tmp_path / "s.json").read_text()) == {"model": "tiny", "levels": [1, 2], "context": None}


def test_other_settings_are_refused_and_nothing_is_overwritten(tmp_path):
    claim(tmp_path / "s.json", {"model": "tiny", "seed": 0})
    before = (tmp_path / "s.json").read_bytes()
    with pytest.raises(OtherRunError, match=r"another run: model was 'tiny', now 'big'; seed was 0, now None"):
        claim(tmp_path / "s.json", {"model": "big"})
    assert (tmp_path / "s.json").read_bytes() == before


def test_free_settings_may_change_and_are_recorded(tmp_path):
    claim(tmp_path / "s.json", {"seed": 0, "num_steps": 5}, free=["num_steps"])
    claim(tmp_path / "s.json", {"seed": 0, "num_steps": 9}, free=["num_steps"])
    assert json.loads((tmp_path / "s.json").read_text()) == {"seed": 0, "num_steps": 9}


@pytest.mark.parametrize("name", ["r.jsonl", "r.jsonl.partial"])
def test_a_file_of_an_unknown_run_is_not_claimed(tmp_path, name):
    (tmp_path / name).write_text("precious\n")
    with pytest.raises(OtherRunError, match=r"r\.jsonl.*choose another --out"):
        claim_output(tmp_path / "r.jsonl", {"seed": 0})
    assert [file.name for file in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "precious\n"


def test_an_output_of_other_settings_is_refused_by_its_name(tmp_path):
    out = tmp_path / "r.jsonl"
    claim_output(out, {"seed": 0})
    out.write_text("precious\n")
    check_output(out, {"seed": 0})
    with pytest.raises(OtherRunError, match=r"r\.jsonl belongs to another run: seed was 0, now 1"):
        check_output(out, {"seed": 1})
    assert json.loads(settings_path(out).read_text()) == {"seed": 0}


def test_what_a_failed_run_left_keeps_no_other_run_out(tmp_path):
    out = tmp_path / "r.jsonl"
    claim_output(out, {"problems": "0123456789abcdef"})
    (tmp_path / "r.jsonl.partial").write_text("")
    claim_output(out, {"problems": "fedcba9876543210"})
    assert json.loads(settings_path(out).read_text()) == {"problems": "fedcba9876543210"}


@pytest.mark.parametrize("name", ["r.jsonl", "r.jsonl.partial"])
def test_another_input_is_named_as_such_and_nothing_is_overwritten(tmp_path, name):
    out = tmp_path / "r.jsonl"
    claim_output(out, {"problems": "0123456789abcdef", "seed": 0})
    (tmp_path / name).write_text("{}\n")
    with pytest.raises(OtherRunError, match=r"another run: problems has other content now; choose another --out"):
        claim_output(out, {"problems": "fedcba9876543210", "seed": 0})
    with pytest.raises(OtherRunError, match=r"now 'whole:0123456789abcdef' \(another version made it in another way\)"):
        claim_output(out, {"problems": "whole:0123456789abcdef", "seed": 0})


def test_a_file_is_replaced_as_a_whole(tmp_path):
    write_text(tmp_path / "new" / "f", "old")
    write_text(tmp_path / "new" / "f", "new")
    assert (tmp_path / "new" / "f").read_text() == "new"
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["f"]
