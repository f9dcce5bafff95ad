"""What a stage leaves to its machine: what was chosen is kept, the rest derived, and too little of the host refused."""

import pytest
import torch
from polaris_train.embedded import tiny_model
from polaris_train.errors import MemoryExhaustedError, RecipeError
from polaris_train.model.loading import load_policy
from polaris_train.planning import GIB, derive, engine_memory, find_machine, model_shape
from polaris_train.recipe import load_recipe
from polaris_train.recipe.tables import Lora
from polaris_train.resolved import ResolvedStage
from polaris_train.run_folder import StageFolder
from polaris_train.stage.engine import share_beside
from polaris_train.stage.fitting import fitted, machine_here, require_host_memory, settled
from polaris_train.stage.host_memory import available_bytes
from polaris_train.stage.worker import smaller_next_time

CONTEXT = 40960
H100 = find_machine("h100", num_ranks=8)


def resolved(*overrides, context=CONTEXT, model="Qwen/Qwen3-4B"):
    recipe = load_recipe("qwen3-4b", [f"model={model}", f"stages.0.context={context}", *overrides])
    own = recipe.stages[0].model_dump(exclude={"name"}) | {"temperature": 1.0}
    named = {"run": "run", "stage": "stage", "model": model, "problems_sha256": ""}
    return ResolvedStage.model_validate(recipe.constants() | recipe.engine_tables() | own | named)


def derived(config, machine=H100):
    return derive(config, config.context, {}, model_shape(config.model), machine)


@pytest.mark.parametrize("degree", [1, 2])
@pytest.mark.parametrize("tokens", [20480, 50000])
def test_micro_batches_that_somebody_chose_are_kept_also_below_the_longest_sequence(tokens, degree):
    config = resolved(f"microbatch_tokens={tokens}", f"context_parallel={degree}")
    plan = derived(config)
    assert plan.training.tokens == max(CONTEXT, degree * tokens)  # what memory is counted with
    assert settled(config, plan).microbatch_tokens == tokens


def test_ranks_share_a_sequence_by_plan_or_by_choice():
    config = resolved("extend_positions=true", context=262144)
    machine = find_machine("h100", num_ranks=8, memory_gib=60)
    plan = derived(config, machine)
    found = settled(config, plan)
    assert not plan.problems and config.context_parallel is None
    assert found.context_parallel == plan.training.context_parallel == 2
    assert found.longest_share == found.microbatch_tokens == 131072
    for degree in (1, 4):
        chosen = config.model_copy(update={"context_parallel": degree})
        assert settled(chosen, derived(chosen)).context_parallel == degree
    assert settled(config, None).context_parallel == 1


def test_micro_batches_that_nobody_chose_fill_the_room_of_the_card():
    config = resolved(context=8192, model="Qwen/Qwen3-0.6B")
    assert settled(config, derived(config)).microbatch_tokens == 32768
    tight = find_machine("h100", num_ranks=8, memory_gib=10)
    assert settled(config, derived(config, tight)).microbatch_tokens == 16384


@pytest.mark.parametrize(("chosen", "begun"), [(None, 32768), (12000, 12000)])
def test_memory_that_runs_out_halves_micro_batches_until_a_sequence_fits_whoever_chose_them(tmp_path, chosen, begun):
    said = [f"microbatch_tokens={chosen}"] if chosen else []
    config = resolved(*said, context=8192, model="Qwen/Qwen3-0.6B")
    folder, plan, taken = StageFolder(tmp_path), derived(config), []
    for _ in range(4):
        found = settled(config, plan, allowed=folder.read_allowed_tokens())
        taken.append(found.microbatch_tokens)
        with pytest.raises(MemoryExhaustedError), smaller_next_time(found, folder):
            raise MemoryExhaustedError(max_tokens=found.max_microbatch_tokens, longest=3000)
    assert taken == [begun, begun // 2, begun // 4, max(begun // 8, 3000)]
    more = config.model_copy(update={"microbatch_tokens": 2048})  # a recipe that asks for less has less
    assert settled(more, plan, allowed=folder.read_allowed_tokens()).microbatch_tokens == 2048


def test_what_a_recipe_says_of_memory_is_kept_and_the_rest_is_what_the_plan_derives():
    tight = find_machine("h100", num_ranks=8, memory_gib=40)
    plan = derived(resolved(), tight)
    found = settled(resolved(), plan)
    assert (found.cpu_offload, found.reduce_each_microbatch, found.activations) == (
        plan.training.offloads,
        plan.training.reduces_each,
        plan.training.activations,
    )
    assert found.cpu_offload or found.reduce_each_microbatch
    for said in ({"cpu_offload": True}, {"cpu_offload": False}, {"activations": "keep"}, {"activations": "offload"}):
        config = resolved(*(f"{name}={str(value).lower()}" for name, value in said.items()))
        for machine in (H100, tight):
            assert settled(config, derived(config, machine)).model_dump(include=set(said)) == said


@pytest.mark.parametrize(("allowed", "tokens"), [(None, None), (300, 300), (2 * CONTEXT, CONTEXT)])
def test_on_a_cpu_nothing_is_derived_and_a_lack_of_memory_still_counts(allowed, tokens):
    config = resolved()
    found = fitted(config, torch.device("cpu"), allowed=allowed)
    assert found == config.model_copy(update={"cpu_offload": False, "context_parallel": 1, "microbatch_tokens": tokens})


@pytest.mark.parametrize(
    ("said", "each", "named"),
    [
        # Float32 masters, two moments and gradients of 4,022,468,096 parameters, on eight ranks.
        (["cpu_offload=true"], 16 * 4_022_468_096 / 8, "cpu_offload"),
        # The input of 36 layers, 2,560 numbers of two bytes each.
        (["cpu_offload=false", "activations=offload"], 2 * 36 * 2560 * CONTEXT, "activations = 'offload'"),
    ],
)
def test_offload_that_the_host_has_no_memory_for_is_refused(said, each, named):
    plan = derived(resolved(*said))
    require_host_memory(plan, num_ranks=8, available=8 * each)
    short = 8 * each - 1
    message = rf"^{named} needs {8 * each / GIB:.0f} GiB of this host's memory for its ranks and {short / GIB:.0f} are"
    with pytest.raises(RecipeError, match=message):
        require_host_memory(plan, num_ranks=8, available=short)
    require_host_memory(derived(resolved("cpu_offload=false", "activations=recompute")), num_ranks=8, available=0)


def test_where_the_host_has_no_memory_another_way_is_taken():
    """Eight cards of 40 GiB beside a host of 50: gradients shared out each time need nothing of it."""
    machines = [find_machine("h100", num_ranks=8, memory_gib=40, host_gib=each) for each in (50, 1000)]
    config = resolved()
    poor, rich = (settled(config, derived(config, each)) for each in machines)
    assert (rich.cpu_offload, rich.reduce_each_microbatch) == (True, False)
    assert (poor.cpu_offload, poor.reduce_each_microbatch) == (False, True)
    plan = derived(config, machines[0])
    assert not plan.problems
    require_host_memory(plan, num_ranks=8, available=50 * GIB)


def system(root, groups, **files):
    """A host with 100 GiB, and groups as files say."""
    written = {"proc/meminfo": "MemTotal: 1 kB\nMemAvailable: 104857600 kB\n", "proc/self/cgroup": groups, **files}
    for name, text in written.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def group(version, folder, limit, used, cache):
    limits, usage, stat = {
        "": ("memory.max", "memory.current", "inactive_file"),
        "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    }[version]
    folder = f"sys/fs/cgroup/{version}/{folder}"
    said = {limits: limit, usage: used * GIB, "memory.stat": f"anon 5\n{stat} {cache * GIB}"}
    return {f"{folder}/{name}": f"{text}\n" for name, text in said.items()}


@pytest.mark.parametrize("version", ["", "memory"])
def test_a_container_leaves_what_its_groups_leave(tmp_path, version):
    """The second version names itself ``0::``, the first has a line for each kind."""
    line = f"4:hugetlb,{version}:/job/step\n1:cpu:/other\n" if version else "0::/job/step\n"
    own, above = group(version, "job/step", 60 * GIB, 30, 10), group(version, "job", 70 * GIB, 50, 0)
    assert available_bytes(system(tmp_path / "none", line)) == 100 * GIB
    assert available_bytes(system(tmp_path / "own", line, **own)) == 40 * GIB
    assert available_bytes(system(tmp_path / "both", line, **own, **above)) == 20 * GIB
    # Inside, a container's own group is the top, whatever its name outside is.
    assert available_bytes(system(tmp_path / "top", line, **group(version, ".", 60 * GIB, 30, 10))) == 40 * GIB
    unlimited = "max" if version == "" else 9223372036854771712
    assert available_bytes(system(tmp_path / "open", line, **group(version, "job/step", unlimited, 30, 0))) == 100 * GIB


@pytest.mark.usefixtures("one_rank")
def test_the_machine_has_the_memory_that_its_host_can_give(monkeypatch):
    card = "NVIDIA H100 80GB HBM3"
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda device: (70 * GIB, 79 * GIB))
    monkeypatch.setattr("torch.cuda.get_device_name", lambda device: card)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")  # so many ranks share the host, and one of them is here
    machine = machine_here(torch.device("cuda", 0))
    assert (machine.card.name, machine.num_ranks, machine.memory_gib) == (card, 1, 79)
    assert machine.host_gib == pytest.approx(available_bytes() / GIB / 4, rel=0.3)  # others begin and end meanwhile


@pytest.mark.usefixtures("one_rank")
@pytest.mark.parametrize("lora", [None, Lora(rank=4)])
def test_an_engine_has_the_share_of_the_device_that_the_plan_gives_it(lora):
    """The trainer keeps its parameters, and two moments of those that it trains; what is offloaded takes nothing."""
    policy = load_policy(str(tiny_model()), device=torch.device("cpu"), context=64, lora=lora)
    shape, total = model_shape("tiny"), 4 * GIB
    frozen, trained = (0, shape.parameters) if lora is None else (shape.parameters, shape.adapter_parameters(lora.rank))

    def planned(resident):
        of = {"memory": total, "tensor_parallel": 1, "share": None, "value_bytes": 2}
        return engine_memory(shape, resident=resident, **of).share

    def share(device, free):
        return share_beside(policy.parameters(), device=device, free=free, total=total)

    assert 0 < share("cpu", total) < share("cuda", total)
    assert share("cpu", total) == pytest.approx(planned(4 * frozen + 12 * trained), rel=1e-12)
    assert share("cuda", total) == pytest.approx(planned(0), rel=1e-12)
    assert share("cpu", 3 * GIB) == pytest.approx(planned(GIB), rel=1e-12)  # what others hold there counts
