"""Memory of one rank while it trains and while its engine samples, in bytes, by formula.

What a layer keeps for its backward pass is counted tensor by tensor as transformers' dense decoders write them: the
inputs of every product, what norms and activations save, in the precision in which they save it. Where it keeps less,
one layer at a time is computed again. Measured beside it:
``tests/bench/plan.py`` on a CPU, and the peaks that prime-rl publishes for one and eight H100 (``tests/test_plan.py``).
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields

from polaris_train.planning.cards import GIB
from polaris_train.planning.linear_attention import LinearAttention
from polaris_train.planning.shapes import ModelShape
from polaris_train.recipe.tables import Activations

WIDE = 4
"""Bytes of a float32: masters, gradients, moments."""

HEAD_CHUNK_BYTES = {True: 2**25, False: 2**28}
"""Of logits at a time, on a CPU and on a GPU: `polaris_train.model.logprobs.CHUNK_BYTES`."""

_CHUNK_COPIES = 2
"""Logits and their exponentials exist at the same time; later slopes and what multiplies the head, of half the size."""

DEVICE_RESERVE = 1.5 * GIB
"""Of a GPU: CUDA's context, NCCL's buffers, and what a process leaves unused between blocks."""

ASLEEP = 1.5 * GIB
"""What an engine that sleeps holds on to: its graphs and work space."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """What decides the memory of one rank's training step."""

    shape: ModelShape
    tokens: int
    """That go through the model at once: the longest sequence, or a whole micro-batch."""
    num_ranks: int = 1
    """That share the parameters."""
    context_parallel: int = 1
    """Ranks that share a sequence."""
    rank: int | None = None
    """Of LoRA adapters; ``None`` trains the weights."""
    on_cpu: bool = False
    num_bytes: int = 2
    """Of a number in the precision of the forward pass."""
    frozen_bytes: int = 2
    """Of a number that is not trained, where it is kept."""
    activations: Activations = "recompute"
    """What layers keep for the backward pass."""
    offloads: bool = False
    """Parameters, gradients and moments are kept by the host."""
    num_microbatches: int = 2
    """Of a rank in one step; all that matters is whether there is more than one."""
    reduces_each: bool = False
    """Gradients are shared out after every micro-batch, not after the last."""
    references: int = 0
    """Frozen copies of the model (``kl_coef``)."""
    has_engine: bool = True
    """An engine sleeps beside it."""
    teacher: ModelShape | None = None
    """Of a teacher that is loaded beside the model and frozen."""

    @property
    def trained(self) -> int:
        """Parameters that an optimizer changes."""
        return self.shape.parameters if self.rank is None else self.shape.adapter_parameters(self.rank)

    @property
    def stored(self) -> int:
        """Bytes of the policy's parameters, of all ranks together."""
        frozen = 0 if self.rank is None else self.frozen_bytes * self.shape.parameters
        return WIDE * self.trained + frozen

    @property
    def frozen(self) -> int:
        """Bytes of models that are loaded beside it, of all ranks together."""
        taught = 0 if self.teacher is None else self.teacher.parameters
        return self.frozen_bytes * (self.references * self.shape.parameters + taught)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingMemory:
    """One rank's memory at the highest moment of a step, in bytes."""

    masters: float
    """Float32 parameters, and those that are not trained: beside adapters, of a reference or of a teacher."""
    moments: float
    """Of AdamW."""
    gradients: float
    """Float32, this rank's part."""
    unsharded_gradients: float
    """Float32, whole on every rank while micro-batches add up."""
    gathered: float
    """Whole weights in the forward precision: what stands outside the layers, and layers on their way."""
    activations: float
    """What the backward pass needs, one layer computed again included."""
    head: float
    """Chunks of logits and the gradient of the output head."""
    engine: float
    """Held by the engine while it sleeps."""
    reserve: float
    """Of the device."""
    host: float
    """Of the host, by this rank: not part of the total."""

    @property
    def total(self) -> float:
        """Of the device."""
        return sum(getattr(self, each.name) for each in fields(self) if each.name != "host")

    @property
    def trainer(self) -> float:
        """What the trainer itself allocates on the device: what a probe measures."""
        return self.total - self.engine - self.reserve

    @property
    def resident(self) -> float:
        """What stays on the device while the engine is awake."""
        return self.masters + self.moments


def training_memory(training: Training) -> TrainingMemory:
    """Return the memory of one rank at the highest moment of a step: of those that `_moments` names, the highest."""
    share = training.num_ranks
    masters = (training.stored + training.frozen) / share
    moments = 2 * WIDE * training.trained / share
    highest = max(_moments(training), key=lambda each: sum(each.values()))
    return TrainingMemory(
        **highest,
        masters=0.0 if training.offloads else masters,
        moments=0.0 if training.offloads else moments,
        engine=ASLEEP if training.has_engine and not training.on_cpu else 0.0,
        reserve=0.0 if training.on_cpu else DEVICE_RESERVE,
        host=_offloaded_inputs(training)
        + (masters + moments + WIDE * training.trained / share if training.offloads else 0.0),
    )


def _offloaded_inputs(training: Training) -> float:
    """Return what the host holds of one rank's activations: the input of every layer."""
    if training.activations != "offload" or training.on_cpu:
        return 0.0
    return training.num_bytes * _tokens(training) * training.shape.layers * training.shape.hidden


def _tokens(training: Training) -> int:
    """Return the tokens of a micro-batch that one rank holds."""
    return -(-training.tokens // training.context_parallel)


def _moments(training: Training) -> Iterator[dict[str, float]]:
    """Yield what there is at each moment that may be the highest, besides what is always there.

    The backward pass begins at the output head and in the last layer, with all activations; it ends in the first
    layer, when the gradients of all others are shared out, and then with the gradients of what stands outside the
    layers, whole and once more as they are sent.
    """
    shape, is_repeated = training.shape, training.num_microbatches > 1
    tokens = _tokens(training)
    root = WIDE * shape.root_parameters if training.rank is None else 0.0
    whole = WIDE * training.trained
    sharded = 0.0 if training.offloads else whole / training.num_ranks
    is_whole = is_repeated and not training.reduces_each
    kept, work = _activations(training, tokens)
    gathered, passing = training.num_bytes * shape.root_parameters, _passing(training)
    first = {"gradients": sharded if is_repeated and training.reduces_each else 0.0}
    first |= {"unsharded_gradients": whole if is_whole else 0.0}
    last = {"gradients": sharded * (1 - root / whole) if is_whole else sharded}
    yield first | {"gathered": gathered, "activations": kept, "head": _head(training, tokens)}
    yield first | {"gathered": gathered + passing, "activations": kept + work, "head": 0.0}
    yield last | {
        "unsharded_gradients": root,
        "gathered": gathered + passing,
        "activations": kept / shape.layers + work,
        "head": 0.0,
    }
    yield last | {"unsharded_gradients": 2 * root, "gathered": gathered, "activations": 0.0, "head": 0.0}
    if training.teacher is not None:
        yield _while_the_teacher_reads(training, training.teacher, tokens)


def _while_the_teacher_reads(training: Training, teacher: ModelShape, tokens: int) -> dict[str, float]:
    """Return what there is before the backward pass while a teacher gives its log-probabilities, layer by layer."""
    size = WIDE if training.on_cpu else training.num_bytes
    chunk = _CHUNK_COPIES * max(HEAD_CHUNK_BYTES[training.on_cpu], WIDE * teacher.vocabulary)
    return {
        "gradients": 0.0,
        "unsharded_gradients": 0.0,
        "gathered": training.num_bytes * (teacher.root_parameters + 2 * teacher.layer_parameters),
        "activations": size * tokens * (4 * teacher.hidden + 3 * teacher.intermediate),
        "head": chunk + size * tokens * teacher.hidden,
    }


def _activations(training: Training, tokens: int) -> tuple[float, float]:
    """Return what is kept of all layers, and what one layer needs besides while it goes backward."""
    shape = training.shape
    size = WIDE if training.on_cpu else training.num_bytes
    kinds = [(shape.full_layers, None), *([(shape.linear.layers, shape.linear)] if shape.linear else [])]
    every = sum(number * _kept_of_layer(training, size, linear) for number, linear in kinds)
    work = max(_layer_work(training, size, linear) for number, linear in kinds if number)
    return tokens * (every + 3 * size * shape.hidden), tokens * work


def _layer_work(training: Training, size: int, linear: LinearAttention | None) -> float:
    """Return the bytes of a token that one layer needs while it goes backward, besides what it has kept."""
    shape = training.shape
    work = 3 * size * shape.intermediate
    if training.on_cpu:
        work += 2 * size * shape.hidden
    if linear is not None:
        work = max(work, linear.working_bytes())  # The MLP's gradients are gone by then.
    if training.activations != "keep":  # One layer is computed again, what was kept of it is not.
        kept = _kept_of_layer(training, size, linear)
        work += _whole_layer(training, size, linear) - max(0.0, kept - size * shape.hidden)
    return work


def _whole_layer(training: Training, size: int, linear: LinearAttention | None) -> float:
    """Return the bytes of a token that a layer saves for its backward pass when it keeps everything."""
    shape, rank = training.shape, training.rank or 0
    hidden, middle = shape.hidden, shape.intermediate
    mixer = _attention(training, size) if linear is None else linear.kept_bytes(size)
    adapters = size * rank * len(shape.linears if linear is None else shape.other_linears)
    if training.on_cpu:
        # Residual stream twice; each norm's input is that, its product with the scale and what linears read.
        norms = 2 * hidden + (4 if training.rank is None else 2) * hidden
        return WIDE * (norms + 4 * middle) + mixer + adapters
    # Norms compute in float32 and save that too.
    return (2 * size + 2 * (WIDE + 2 * size)) * hidden + 4 * size * middle + mixer + adapters


def _attention(training: Training, size: int) -> float:
    """Return the bytes of a token that full attention saves."""
    shape = training.shape
    query, key = shape.query, shape.key
    gates = 3 * size * query if shape.has_gates else 0  # with the half of the projection that they are
    if training.on_cpu:
        norms = (2 if training.rank is None else 1) if shape.head_norms else 0
        return WIDE * (3 * query + 2 * key + norms * (query + key)) + gates
    norms = WIDE + size if shape.head_norms else 0
    return (2 * size + norms) * (query + key) + gates


def _kept_of_layer(training: Training, size: int, linear: LinearAttention | None) -> float:
    """Return the bytes of a token that a layer keeps until the backward pass reaches it."""
    shape, activations = training.shape, training.activations
    if activations == "keep":
        return _whole_layer(training, size, linear)
    if activations == "offload" and not training.on_cpu:
        return 2 * size * shape.hidden / shape.layers  # on their way to the host and back
    kept = size * shape.hidden
    if activations in ("attention", "selective") and linear is None:
        kept += size * shape.query + WIDE * shape.heads  # with a logarithm for each head
    if activations == "selective":
        linears = shape.linears if linear is None else shape.other_linears
        results = sum(outputs for _, outputs in linears)
        kept += size * results
        if training.rank is not None:  # Adapters have products of their own.
            kept += size * (results + len(linears) * training.rank)
    return kept


def _head(training: Training, tokens: int) -> float:
    """Return what log-probabilities need at the beginning of the backward pass."""
    shape, size = training.shape, WIDE if training.on_cpu else training.num_bytes
    chunk = _CHUNK_COPIES * max(HEAD_CHUNK_BYTES[training.on_cpu], WIDE * shape.vocabulary)
    return chunk + size * tokens * shape.hidden + _head_gradient(training)


def _head_gradient(training: Training) -> float:
    """Return the gradient of the output head, which is whole until it is shared out, and a product beside it."""
    if training.rank is not None:
        return 0.0
    return WIDE * training.shape.embedding_parameters * (1 if training.on_cpu else 2)


def _passing(training: Training) -> float:
    """Return what layers on their way need: weights gathered for two, gradients of one in float32 and their copy."""
    per_layer = training.shape.layer_parameters
    trained = training.trained / training.shape.layers if training.rank is not None else per_layer
    if training.on_cpu:
        return WIDE * (2 * per_layer + 2 * trained)
    return training.num_bytes * 3 * per_layer + 2 * WIDE * trained
