"""Groups on disk: single files, and the folder that grows group by group and survives whatever ends its writer."""

import random
import shutil
import signal
import subprocess
import sys
import time
import tracemalloc
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from polaris_rollout import Completion, Group, SamplingParams, StoreError, completion_seed
from polaris_rollout.store import count_tokens, read_settings, table
from polaris_rollout.store import folder as store
from polaris_rollout.store.folder import RolloutStore, read_columns, read_groups, read_store, write_groups

PARAMS = SamplingParams(temperature=0.5, seed=3)


def group(problem_id, *texts, num_tokens=2):
    return Group(
        problem_id=problem_id,
        prompt_token_ids=(1, 2, len(problem_id)),
        completions=tuple(
            Completion(
                token_ids=tuple(range(7, 7 + num_tokens)),
                logprobs=(-0.5, *[-0.25] * (num_tokens - 1)),
                text=text,
                finish_reason="stop",
            )
            for text in texts
        ),
        weights_version="w3",
    )


GROUPS = [group(f"p{number}", f"text {number}", "ü" * number) for number in range(5)]


def fill(folder, groups, settings=None):
    with RolloutStore(folder, settings) as rollouts:
        for each in groups:
            rollouts.append(each, PARAMS)


def leave_tail(folder, groups):
    """Write as one that is killed: nothing but the tail."""
    rollouts = RolloutStore(folder)
    for each in groups:
        rollouts.append(each, PARAMS)
    rollouts.close()
    return folder / "part-000001.tail"


def names(folder):
    return sorted(path.name for path in folder.iterdir() if path.name != ".lock")


def test_groups_come_back_as_they_were_written(tmp_path):
    groups = [group("b", "x", "ü"), group("a", "", "z")]
    path = tmp_path / "deep" / "groups.parquet"
    settings = {"temperature": 0.1 + 0.2, "evaluate_on": ["ü"], "seed": None}
    write_groups(path, groups, PARAMS, columns={"answer": [None, "1", "2", None]}, settings=settings)
    assert read_groups(path) == groups
    assert read_settings(path) == settings
    assert read_columns(path, ["answer", "seed"]) == {
        "answer": [None, "1", "2", None],
        "seed": [completion_seed(3, problem_id, sample) for problem_id in "ba" for sample in (0, 1)],
    }
    assert count_tokens(path) == [2, 2, 2, 2]
    assert names(path.parent) == ["groups.parquet"]
    write_groups(path, groups, PARAMS)
    assert read_settings(path) is None


def test_any_reader_of_parquet_finds_every_column(tmp_path):
    fill(tmp_path, [group("a", "x", "y")])
    rows = pq.read_table(tmp_path / "part-000001.parquet").to_pylist()
    assert [row["sample"] for row in rows] == [0, 1]
    assert rows[1] == {
        "problem_id": "a",
        "sample": 1,
        "prompt_token_ids": [1, 2, 1],
        "token_ids": [7, 8],
        "logprobs": [-0.5, -0.25],
        "text": "y",
        "finish_reason": "stop",
        "temperature": 0.5,
        "weights_version": "w3",
        "seed": completion_seed(3, "a", 1),
        "prefilled": "",
    }


def test_what_the_prompt_opened_is_kept_with_the_group_and_stands_before_its_texts(tmp_path):
    opened = replace(group("a", "x", "y"), prefilled="<think>\n")
    fill(tmp_path, [opened, GROUPS[0]])
    assert list(read_store(tmp_path)) == [opened, GROUPS[0]]
    assert opened.texts == ("<think>\nx", "<think>\ny")
    assert GROUPS[0].texts == ("text 0", "")


def test_a_completion_that_spans_versions_of_the_weights_is_read_as_it_was_written(tmp_path):
    one, other = group("a", "x", "y"), group("b", "x", "y")
    spanning = replace(one.completions[1], weights=((0, "v1"), (1, "v2")))
    groups = [GROUPS[0], replace(one, completions=(one.completions[0], spanning)), other]
    fill(tmp_path, groups[:2])
    leave_tail(tmp_path, groups[2:])
    assert list(read_store(tmp_path)) == groups
    fill(tmp_path, GROUPS[1:2])
    assert list(read_store(tmp_path)) == [*groups, GROUPS[1]]
    names = [pq.read_schema(tmp_path / f"part-00000{number}.parquet").names for number in (1, 2)]
    assert ["weights" in each for each in names] == [True, False]


def test_files_of_earlier_versions_which_know_no_opened_thought_are_read_and_continued(tmp_path, monkeypatch):
    earlier = pa.schema([field for field in table._SCHEMA if field.name != "prefilled"])
    with monkeypatch.context() as patch:
        patch.setattr(table, "_SCHEMA", earlier)
        fill(tmp_path, GROUPS[:1])
        leave_tail(tmp_path, GROUPS[1:2])
    fill(tmp_path, GROUPS[2:])
    assert "prefilled" not in pq.read_schema(tmp_path / "part-000001.parquet").names
    assert list(read_store(tmp_path)) == GROUPS


def damage(data, how):
    middle = len(data) // 3
    return {
        "cut short": data[:-100],
        "a changed byte": data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :],
        "empty": b"",
        "something else": b"PAR1 not really PAR1",
    }[how]


@pytest.mark.parametrize("how", ["cut short", "a changed byte", "empty", "something else"])
def test_a_damaged_part_names_its_file(tmp_path, how):
    fill(tmp_path, [group(f"p{number}", random.Random(number).randbytes(400).hex()) for number in range(50)])
    part = tmp_path / "part-000001.parquet"
    part.write_bytes(damage(part.read_bytes(), how))
    for read in (read_groups, lambda path: list(read_store(path.parent))):
        with pytest.raises(StoreError, match=r"part-000001\.parquet cannot be read"):
            read(part)


def test_a_part_that_is_removed_is_drawn_again(tmp_path):
    fill(tmp_path, GROUPS[:2])
    fill(tmp_path, GROUPS[2:])
    (tmp_path / "part-000001.parquet").write_bytes(b"")
    with pytest.raises(StoreError, match=r"part-000001\.parquet cannot be read"):
        RolloutStore(tmp_path)
    (tmp_path / "part-000001.parquet").unlink()
    with RolloutStore(tmp_path) as rollouts:
        assert rollouts.finished == {"p2", "p3", "p4"}
        rollouts.append(GROUPS[0], PARAMS)
    assert list(read_store(tmp_path)) == [*GROUPS[2:], GROUPS[0]]


def test_a_table_of_something_else_is_refused_with_what_it_lacks(tmp_path):
    pq.write_table(pa.table({"problem_id": ["a"]}), tmp_path / "part-000001.parquet")
    with pytest.raises(StoreError, match="not a file of groups: it has no column finish_reason, logprobs"):
        list(read_store(tmp_path))


def test_a_group_is_readable_once_it_is_appended(tmp_path):
    with RolloutStore(tmp_path) as rollouts:
        assert list(read_store(tmp_path)) == []
        for number, each in enumerate(GROUPS):
            rollouts.append(each, PARAMS)
            assert list(read_store(tmp_path)) == GROUPS[: number + 1]
            assert rollouts.finished == {each.problem_id for each in GROUPS[: number + 1]}
    assert list(read_store(tmp_path)) == GROUPS
    assert names(tmp_path) == ["part-000001.parquet"]


def test_a_long_tail_becomes_a_part(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "TAIL_BYTES", 3000)
    with RolloutStore(tmp_path) as rollouts:
        for number, each in enumerate(GROUPS):
            rollouts.append(each, PARAMS)
            assert list(read_store(tmp_path)) == GROUPS[: number + 1]
        assert names(tmp_path) == ["part-000001.parquet", "part-000002.parquet", "part-000003.tail"]
    assert names(tmp_path) == [f"part-00000{number}.parquet" for number in (1, 2, 3)]
    with RolloutStore(tmp_path) as rollouts:
        assert rollouts.finished == {each.problem_id for each in GROUPS}
    assert names(tmp_path) == [f"part-00000{number}.parquet" for number in (1, 2, 3)]


def test_a_finished_group_is_not_appended_twice(tmp_path):
    fill(tmp_path, GROUPS)
    with RolloutStore(tmp_path) as rollouts, pytest.raises(ValueError, match="'p1' is in"):
        rollouts.append(GROUPS[1], PARAMS)
    assert list(read_store(tmp_path)) == GROUPS


def test_whatever_length_a_tail_is_cut_to_its_whole_groups_are_kept(tmp_path):
    ends = [leave_tail(tmp_path, [each]).stat().st_size for each in GROUPS[:3]]
    tail = tmp_path / "part-000001.tail"
    whole = tail.read_bytes()
    for length in {*range(0, len(whole), 101), *ends, *(end - 1 for end in ends), *(end + 1 for end in ends[:2])}:
        tail.write_bytes(whole[:length])
        kept = GROUPS[: sum(end <= length for end in ends)]
        assert list(read_store(tmp_path)) == kept
        leave_tail(tmp_path, GROUPS[4:])
        assert list(read_store(tmp_path)) == [*kept, GROUPS[4]]


@pytest.mark.parametrize("garbage", [bytes(5000), b"\xff" * 5000, b"x"])
def test_what_is_not_a_group_at_the_end_of_a_tail_is_dropped(tmp_path, garbage):
    with leave_tail(tmp_path, GROUPS[:2]).open("ab") as file:
        file.write(garbage)
    assert list(read_store(tmp_path)) == GROUPS[:2]
    fill(tmp_path, GROUPS[2:])
    assert list(read_store(tmp_path)) == GROUPS


@pytest.mark.parametrize("share", [0.0, 0.02, 0.1, 0.21, 0.5, 0.79])
def test_a_byte_that_the_disk_flips_costs_one_group_and_is_said(tmp_path, caplog, share):
    """Whether it is in the length, the checksum or the content of a frame."""
    tail = leave_tail(tmp_path, GROUPS)
    data = bytearray(tail.read_bytes())
    place = int(share * len(data)) + 1
    data[place] ^= 0x41
    tail.write_bytes(data)
    kept = list(read_store(tmp_path))
    assert len(kept) == len(GROUPS) - 1
    assert all(each in GROUPS for each in kept)
    lost = next(each for each in GROUPS if each not in kept)
    with RolloutStore(tmp_path) as rollouts:
        assert f"are damaged; the {len(kept)} groups beside them are kept" in caplog.text
        assert rollouts.finished == {each.problem_id for each in kept}
        rollouts.append(lost, PARAMS)
    assert list(read_store(tmp_path)) == [*kept, lost]
    assert names(tmp_path) == ["part-000001.parquet"]


def test_completions_behind_lost_ones_of_their_problem_are_drawn_again(tmp_path):
    rollouts = RolloutStore(tmp_path)
    for first, text in enumerate("abc"):
        rollouts.append(group("p", text), PARAMS, first_sample=first)
    rollouts.close()
    tail = tmp_path / "part-000001.tail"
    data = bytearray(tail.read_bytes())
    data[len(data) // 2] ^= 0x41
    tail.write_bytes(data)
    with RolloutStore(tmp_path) as rollouts:
        assert rollouts.num_samples["p"] == 1
        rollouts.append(group("p", "d"), PARAMS, first_sample=1)
    assert [each.text for found in read_store(tmp_path) for each in found.completions] == ["a", "d"]


def test_a_tail_that_became_a_part_before_the_kill_is_no_duplicate(tmp_path):
    tail = leave_tail(tmp_path, GROUPS[:2])
    copy = tail.read_bytes()
    fill(tmp_path, [])
    assert names(tmp_path) == ["part-000001.parquet"]
    tail.write_bytes(copy)
    (tmp_path / "part-000002.parquet.tmp").write_bytes(b"half of it")
    assert list(read_store(tmp_path)) == GROUPS[:2]
    fill(tmp_path, GROUPS[2:])
    assert list(read_store(tmp_path)) == GROUPS
    assert names(tmp_path) == ["part-000001.parquet", "part-000002.parquet"]


def test_a_second_writer_is_refused_and_disturbs_nothing(tmp_path):
    with RolloutStore(tmp_path) as rollouts:
        rollouts.append(GROUPS[0], PARAMS)
        with pytest.raises(StoreError, match="another process is writing"):
            RolloutStore(tmp_path)
        rollouts.append(GROUPS[1], PARAMS)
    fill(tmp_path, GROUPS[2:])
    assert list(read_store(tmp_path)) == GROUPS


def test_a_block_that_raises_keeps_its_groups_and_frees_the_folder(tmp_path):
    with pytest.raises(ZeroDivisionError), RolloutStore(tmp_path) as rollouts:
        rollouts.append(GROUPS[0], PARAMS)
        raise ZeroDivisionError
    fill(tmp_path, GROUPS[1:])
    assert list(read_store(tmp_path)) == GROUPS


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(StoreError, match="no folder"):
        list(read_store(tmp_path / "none"))


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        RolloutStore(tmp_path / "file" / "folder")


def test_a_folder_of_another_job_is_refused(tmp_path):
    fill(tmp_path, GROUPS[:1], {"model": "m", "seed": 0})
    fill(tmp_path, GROUPS[1:2], {"model": "m", "seed": 0})
    before = names(tmp_path)
    with pytest.raises(StoreError, match=r"another job \(seed was 0, now 1\)"):
        RolloutStore(tmp_path, {"model": "m", "seed": 1})
    assert names(tmp_path) == before == ["part-000001.parquet", "part-000002.parquet", "settings.json"]


def test_settings_without_a_group_claim_nothing(tmp_path):
    fill(tmp_path, [], {"context": 100})
    fill(tmp_path, GROUPS, {"context": 200})
    with pytest.raises(StoreError, match="context was 200, now 100"):
        RolloutStore(tmp_path, {"context": 100})


def test_damaged_settings_name_their_file(tmp_path):
    (tmp_path / "settings.json").write_text('{"model": "m')
    with pytest.raises(StoreError, match=r"settings\.json cannot be read"):
        RolloutStore(tmp_path, {"model": "m"})


def test_a_store_is_read_in_a_fraction_of_its_size(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "TAIL_BYTES", 2**17)
    num_groups, num_tokens = 120, 2000
    fill(tmp_path, [group(f"p{number}", *["x"] * 4, num_tokens=num_tokens) for number in range(num_groups)])
    size_in_memory = num_groups * 4 * num_tokens * 2 * 8  # A pointer for each token and each log-probability.
    before = pa.total_allocated_bytes()
    largest_table = num_read = 0
    tracemalloc.start()
    for _ in read_store(tmp_path):
        largest_table = max(largest_table, pa.total_allocated_bytes() - before)
        num_read += 1
    _, largest_objects = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert num_read == num_groups
    assert largest_objects + largest_table < size_in_memory / 5


WRITER = """
import sys
from pathlib import Path
from test_store import PARAMS, group
from polaris_rollout.store import folder as store
store.TAIL_BYTES = 40_000
with store.RolloutStore(Path(sys.argv[1])) as rollouts:
    for number in range(100_000):
        problem_id = f"p{number}"
        if problem_id not in rollouts.finished:
            rollouts.append(group(problem_id, *["text"] * (1 + number % 5), num_tokens=2 + number % 300), PARAMS)
            print(problem_id, flush=True)
"""


def test_kills_at_any_moment_lose_no_group_that_was_appended(request, tmp_path):
    code = f"import sys; sys.path.insert(0, {str(request.path.parent)!r})\n{WRITER}"
    folder, chance, stored = tmp_path / "rollouts", random.Random(0), []
    for _ in range(5):
        command = [sys.executable, "-c", code, folder]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            said = [process.stdout.readline() for _ in range(chance.randrange(1, 60))]
            while_writing = [each.problem_id for each in read_store(folder)]
            time.sleep(chance.random() / 20)
            process.send_signal(signal.SIGKILL)
            said += process.stdout.readlines()
        appended = stored + [line.strip() for line in said if line.endswith("\n")]
        stored = [each.problem_id for each in read_store(folder)]
        assert stored[: len(appended)] == appended
        assert len(stored) <= len(appended) + 1  # The kill may have come before it could say so.
        assert stored[: len(while_writing)] == while_writing
    fill(folder, [])
    found = list(read_store(folder))
    assert [each.problem_id for each in found] == stored == [f"p{number}" for number in range(len(stored))]
    assert found[7] == group("p7", "text", "text", "text", num_tokens=9)
    assert len(names(folder)) > 1
    assert all(name.endswith(".parquet") for name in names(folder))


FULL_DISK = """
import resource, sys
from pathlib import Path
from test_store import PARAMS, group
from polaris_rollout import StoreError
from polaris_rollout.store import folder as store
limit = int(sys.argv[2])
with store.RolloutStore(Path(sys.argv[1])) as rollouts:
    if limit > 1000:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        for number in range(20):
            rollouts.append(group(f"p{number}", "text", num_tokens=100), PARAMS)
            print(f"p{number}")
    except StoreError as error:
        raise SystemExit(str(error))
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
"""


@pytest.mark.parametrize("limit", [30_000, 500])
def test_a_full_disk_is_one_sentence_and_loses_nothing(request, tmp_path, limit):
    """A limit on the size of files stands for the disk: of the tail while appending, or of the part at the end."""
    folder = tmp_path / "rollouts"
    code = f"import sys; sys.path.insert(0, {str(request.path.parent)!r})\n{FULL_DISK}"
    done = subprocess.run([sys.executable, "-c", code, folder, str(limit)], capture_output=True, text=True)
    assert done.returncode != 0
    assert "cannot be written (File too large); free 128 MiB or more on its disk, then the same command" in done.stderr
    appended = done.stdout.split()
    assert len(appended) == 20 if limit == 500 else 5 < len(appended) < 20
    assert [each.problem_id for each in read_store(folder)] == appended
    assert names(folder) == ["part-000001.tail"]
    fill(folder, [group("q", "text")])
    assert [each.problem_id for each in read_store(folder)] == [*appended, "q"]
    assert names(folder) == ["part-000001.parquet"]


def test_a_copy_of_the_folder_is_as_good(tmp_path):
    leave_tail(tmp_path / "a", GROUPS)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert list(read_store(tmp_path / "b")) == GROUPS
