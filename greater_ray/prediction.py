"""What a step of GReaTer takes before anything is run: seconds and memory, from a model's shape and a machine's rates.

Nothing here is fitted to a step. A pass costs its matrix products at the rate of so many rows, the keys and values that
attention reads and the products it makes of them, what its elementwise operators read and write, softmax over its
logits, and a fixed time for every layer and every pass. The rates are measured on products, copies and a model of next
to no width (``models.calibration``), or given.

The formulas count a decoder of today (norms, rotary positions, a gated MLP, grouped keys and values), as this package
runs it: prepacked weights without a gradient, shards, candidates behind common prefixes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from greater_ray.decoder_shape import Shape
from greater_ray.sections import Config

# Numbers that elementwise operators read and write for a token in a layer: of a norm (two in a layer; square, mean,
# scale, weight), of the residual sums, of rotary positions (for queries and keys) and of the gate.
_NORM, _RESIDUAL, _ROTARY, _GATE = 8, 3, 11, 5
# On the way back every such operator reads a gradient and what was kept, and writes a gradient.
_BACK = 2


class Hardware(Config):
    """Rates of a machine for one dtype and number of threads; seconds, bytes.

    ``products`` are pairs of rows and seconds that a product of so many rows takes for every number of the matrix, on
    weights as they are multiplied without a gradient; ``wide`` the same in float32, ``backward`` a product forwards and
    one backwards under autograd. ``touched`` is for a byte that an elementwise operator reads or writes, ``kept`` for
    one of keys and values that is read for a decoded token, ``shared`` where rows have it in common. ``attention`` is
    for a product and sum over many queries, ``attention_backward`` forwards and back. ``softmax`` is for a logit.
    ``layer`` and ``each`` are for a layer and a pass whatever is computed, ``layer_backward`` and ``each_backward``
    with the way back. ``process`` is the memory of a program whose model has next to no weights, ``entry`` what a token
    of a vocabulary takes in tokenizer and lists, ``slack`` how much a heap grows for a byte that comes and goes.
    """

    name: str
    dtype: str
    threads: int
    products: tuple[tuple[int, float], ...]
    wide: tuple[tuple[int, float], ...]
    backward: tuple[tuple[int, float], ...]
    touched: float
    kept: float
    shared: float
    attention: float
    attention_backward: float
    softmax: float
    layer: float
    each: float
    layer_backward: float
    each_backward: float
    process: int
    entry: int = 0
    slack: float = 1.0
    decode_rows: int = 96
    gradient_rows: int = 8
    packs: bool = True


@dataclass(frozen=True, slots=True)
class Load:
    """How much is computed: N, x, p, r and mu of the paper, in rows and tokens.

    ``position`` is the place in the prompt that is tuned, by default its middle, as the mean over a search.
    ``suffix`` and ``extractor`` are tokens behind the prompt and behind the reasoning. A search ends with
    ``test_rows`` answered under two prompts.
    """

    rows: int
    question: int
    prompt: int
    reasoning: int
    candidates: int
    shard_size: int = 25
    position: int | None = None
    suffix: int = 0
    extractor: int = 8
    label: int = 2
    answer: int = 8
    test_rows: int = 0

    @property
    def begun(self) -> int:
        """How many tokens of the prompt stand in front of the position."""
        return self.prompt // 2 if self.position is None else self.position

    @property
    def own(self) -> int:
        """Tokens of a row behind its question, to the label's end."""
        return 1 + self.prompt + self.suffix + self.reasoning + self.extractor + self.label


class Known(NamedTuple):
    """All that has to be known of a model and a machine."""

    shape: Shape
    hardware: Hardware


class Memory(NamedTuple):
    """Bytes: a program without weights, weights, their prepacked copies, keys and values of all questions, and what a
    batch of rollouts and one of the gradient hold beside, with the holes that they leave in the heap."""

    process: int
    weights: int
    packed: int
    questions: int
    decoding: int
    gradient: int

    @property
    def peak(self) -> int:
        """The most that is held at once; rollouts and gradients take turns."""
        return self.process + self.weights + self.packed + self.questions + max(self.decoding, self.gradient)


class Prediction(NamedTuple):
    """Seconds by part, and memory.

    Once: ``questions`` (their keys and values) and ``reasoning`` (of the prompt that a search begins with, known
    afterwards). In every step: ``gradient``, ``screening`` (gradients of single tokens) and ``candidates`` (all of
    them re-evaluated by full reasoning). At the end: ``final``, the test rows under two prompts.
    """

    questions: float
    reasoning: float
    gradient: float
    screening: float
    candidates: float
    final: float
    memory: Memory

    @property
    def step(self) -> float:
        """Seconds of every step."""
        return self.gradient + self.screening + self.candidates

    def search(self, steps: int) -> float:
        """Seconds of a search of so many steps with its final evaluation."""
        return self.questions + self.reasoning + steps * self.step + self.final


def predict(shape: Shape, hardware: Hardware, load: Load, replicas: int = 1) -> Prediction:
    """Return what a step of GReaTer takes on so many replicas, each with the rates of ``hardware``.

    Shards are handed out whole, so that more replicas than shards gain nothing.
    """
    counted = _Counted(shape, hardware, load)
    shards = _cut(load.rows, load.shard_size)
    tests = _cut(load.test_rows, load.shard_size)

    def together(seconds: Sequence[float]) -> float:
        return max((sum(seconds[k::replicas]) for k in range(replicas)), default=0.0)

    return Prediction(
        questions=together([counted.questions(rows) for rows in shards]),
        reasoning=together([counted.rollouts(rows, 1) for rows in shards]),
        gradient=together([counted.gradient(rows) for rows in shards]),
        screening=hardware.each,
        candidates=together([counted.rollouts(rows, load.candidates) for rows in shards]),
        final=2 * together([counted.rollouts(rows, 1, load.answer) for rows in tests])
        + together([counted.questions(rows) for rows in tests]),
        memory=counted.memory(shards[0]),
    )


def per_row(shape: Shape, hardware: Hardware, load: Load) -> tuple[float, float]:
    """Return the seconds of a row that is answered and of one that is differentiated, in batches of a shard."""
    counted, rows = _Counted(shape, hardware, load), min(load.rows, load.shard_size)
    return counted.rollouts(rows, 1, load.answer) / rows, counted.gradient(rows) / rows


def _cut(rows: int, most: int) -> list[int]:
    return [min(most, rows - start) for start in range(0, rows, most)]


def _at(curve: Sequence[tuple[int, float]], rows: float) -> float:
    """Return seconds per number of a matrix at so many rows, between two that were measured; beyond, in proportion."""
    first, last = curve[0], curve[-1]
    if rows <= first[0]:
        return first[1]
    for (low, before), (high, after) in pairwise(curve):
        if rows <= high:
            return before + (after - before) * (rows - low) / (high - low)
    return last[1] * rows / last[0]


def kept_bytes(shape: Shape, load: Load, rows: int) -> int:
    """Return the bytes of tensors that a gradient of so many rows keeps for the way back, and its prefix."""
    tokens, total = load.own - 1 - load.begun, load.question + load.own
    # The inputs of both norms and what they are scaled to, queries and what attention gives, keys and values of the
    # whole row for every head, and of the MLP the gate, its activation, the other factor.
    width = shape.heads * shape.head_size
    numbers = tokens * (4 * shape.hidden + 2 * width + 3 * shape.inner) + 2 * total * width
    places = load.prompt - load.begun - 1 + load.label
    beginning = (load.question + 1 + load.begun) * shape.layers * shape.kv_bytes
    return rows * (shape.layers * numbers * shape.size + places * shape.vocabulary * 4 * 3 + beginning)


@dataclass(frozen=True)
class _Counted:
    """The passes of a load, in seconds."""

    shape: Shape
    hardware: Hardware
    load: Load

    def _head(self, places: float, *, largest: bool = False) -> float:
        """Logits at so many places; with ``largest``, only the largest one need be in float32."""
        shape, hardware = self.shape, self.hardware
        curve = hardware.wide if shape.is_half and not largest else hardware.products
        return shape.head_entries * _at(curve, places)

    def _elementwise(self, tokens: float) -> float:
        shape = self.shape
        numbers = (2 * _NORM + 2 * _RESIDUAL) * shape.hidden + _GATE * shape.inner
        numbers += (_ROTARY * (shape.heads + shape.kv_heads) + 2 * shape.heads + 4 * shape.kv_heads) * shape.head_size
        return tokens * numbers * shape.size * self.hardware.touched

    def _pass(self, rows: int, queries: int, slots: float, places: float, shared: tuple[int, float] = (0, 0)) -> float:
        """A forward pass of ``rows`` times ``queries`` tokens over ``slots`` of each row's own.

        ``shared`` are rows and slots of a prefix that they have in common; logits are computed at ``places`` a row.
        """
        shape, hardware, tokens = self.shape, self.hardware, rows * queries
        common, before = shared
        own = rows * slots * shape.kv_bytes
        group = shape.heads // shape.kv_heads
        if common:
            read = (own + common * before * shape.kv_bytes) * hardware.shared
        else:
            # Keys and values are copied for every head of a group.
            copied = (1 + group) * own * hardware.touched if group > 1 else 0.0
            read = own * group * hardware.kept + copied
        mixed = 2 * tokens * shape.heads * shape.head_size * (slots + before)
        attention = read if queries == 1 else read + mixed * hardware.attention
        layer = shape.layer_entries * _at(hardware.products, tokens) + attention + self._elementwise(tokens)
        beside = hardware.each + self._head(rows * places, largest=queries == 1 and hardware.packs)
        return shape.layers * (layer + hardware.layer) + beside

    def questions(self, rows: int) -> float:
        """Keys and values of a shard's questions."""
        seconds = 0.0
        for few in _cut(rows, self.hardware.decode_rows):
            seconds += self._pass(few, self.load.question, self.load.question, 1)
        return seconds

    def rollouts(self, rows: int, prompts: int, answer: int = 0) -> float:
        """Prefill of the prompts, reasoning and label of a shard's rows under all prompts."""
        load, seconds = self.load, 0.0
        for batch in _cut(rows * prompts, self.hardware.decode_rows):
            members = min(rows, batch)
            begun = load.begun if members < batch else 0
            fed = 1 + load.prompt - begun + load.suffix
            before = load.question + begun
            if begun:
                seconds += self._pass(members, 1 + begun, before, begun + 1)
                seconds += self._losses(members * begun)
            shared = (members, before) if 2 * members <= batch else (0, 0)
            own = 0 if shared[0] else before
            seconds += self._pass(batch, fed, own + fed, load.prompt - begun + 1, shared)
            seconds += self._losses(batch * (load.prompt - begun))
            middle = own + fed + load.reasoning / 2
            token = self._pass(batch, 1, middle, 1, shared) + batch * self.shape.vocabulary * self._touched_logit
            seconds += (load.reasoning - 1) * token
            tail = 1 + load.extractor + load.label
            seconds += self._pass(batch, tail, own + fed + load.reasoning + tail, load.label, shared)
            seconds += self._losses(batch * load.label)
            seconds += max(0, answer - 1) * token
        return seconds

    @property
    def _touched_logit(self) -> float:
        """Reading a logit for an arg-max."""
        return 4 * self.hardware.touched

    def _losses(self, places: float) -> float:
        return places * self.shape.vocabulary * self.hardware.softmax

    def gradient(self, rows: int) -> float:
        """What stands in front of the position without a gradient; the rest forwards and back."""
        shape, hardware, load = self.shape, self.hardware, self.load
        seconds = 0.0
        for few in _cut(rows, hardware.gradient_rows):
            begun = 1 + load.begun
            seconds += self._pass(few, begun, load.question + begun, load.begun + 1) + self._losses(few * load.begun)
            tokens = few * (load.own - begun)
            slots = load.question + load.own
            group = shape.heads // shape.kv_heads
            # Prefix and own part are joined, copied for every head of a group, and their gradients taken back.
            copied = 2 * (2 + (1 + group if group > 1 else 0)) * few * slots * shape.kv_bytes * hardware.touched
            mixed = 2 * tokens * shape.heads * shape.head_size * slots * hardware.attention_backward
            layer = shape.layer_entries * _at(hardware.backward, tokens) + copied + mixed
            layer += (1 + _BACK) * self._elementwise(tokens)
            places = few * (load.prompt - load.begun - 1 + load.label)
            head = shape.head_entries * _at(hardware.backward, places)
            seconds += shape.layers * (layer + hardware.layer_backward) + head + hardware.each_backward
            # A softmax forwards, its gradient back, for the prompt and once more for its scores.
            seconds += 2 * self._losses(places)
        return seconds

    def memory(self, rows: int) -> Memory:
        """Bytes of each kind, with a shard of so many rows."""
        shape, hardware, load = self.shape, self.hardware, self.load
        kv = shape.layers * shape.kv_bytes
        heads = shape.head_entries * (4 + shape.size if shape.is_half else shape.size)
        packed = shape.layers * shape.layer_entries * shape.size + heads if hardware.packs else 0
        batch = min(rows * load.candidates, hardware.decode_rows)
        members = min(rows, batch)
        begun = load.begun if members < batch else 0
        shared = 2 * members <= batch
        slots = 1 + load.prompt - begun + load.suffix + load.reasoning + load.extractor + load.answer
        slots += 0 if shared else load.question + begun
        beginnings = members * (load.question + 1 + begun) * kv if begun else 0
        logits = batch * (load.prompt - begun + 1) * shape.vocabulary * 4
        # The factors of one layer's MLP for all tokens that are fed at once, and its input.
        fed = batch * (1 + load.prompt - begun + load.suffix)
        passing = fed * (3 * shape.inner + 2 * shape.hidden) * shape.size
        few = min(rows, hardware.gradient_rows)
        kept = kept_bytes(shape, load, few)
        return Memory(
            process=hardware.process + shape.vocabulary * hardware.entry,
            weights=shape.parameters * shape.size,
            packed=packed,
            questions=load.rows * load.question * kv,
            decoding=round((batch * slots * kv + beginnings + logits + passing) * hardware.slack),
            gradient=round(kept * hardware.slack),
        )
