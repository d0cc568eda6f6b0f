"""The measurements of ``bench_gpu``: every function returns rows of a table, (what, figure, remark)."""

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from benchmarks.gpu_models import Load, sizes_of
from benchmarks.reference import BATCH, ReferenceModel
from greater_ray.models import checks
from greater_ray.models.engine import Engine
from greater_ray.types import Layout, LossSpec, TokenIds
from greater_ray.work import Gradients, OneHotGradient, Rollouts, Unit, Work

Row = tuple[str, str, str]
LOSS = LossSpec()
DEPTH = 10  # likeliest tokens of a row, as the paper's k


def seconds(work: Callable[[], Any], device: torch.device, repeats: int = 1) -> float:
    """Return the median time of some calls, the device's own work included."""
    times = []
    for _ in range(repeats):
        wait(device)
        begin = time.perf_counter()
        work()
        wait(device)
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def wait(device: torch.device) -> None:
    """Wait until a GPU has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


# -- what the hardware can do --------------------------------------------------------------------------------------


def bandwidth(device: torch.device, *, tiny: bool) -> float:
    """Bytes a second that a copy reads and writes, the best of ten."""
    source = torch.ones(2**18 if tiny else 2**30, dtype=torch.bfloat16, device=device)
    target = torch.empty_like(source)
    target.copy_(source)
    best = min(seconds(lambda: target.copy_(source), device) for _ in range(10))
    return 2 * source.numel() * source.element_size() / best


def matrix_rate(device: torch.device, dtype: torch.dtype, *, tiny: bool) -> float:
    """Operations a second of a large matrix product, the best of ten."""
    size = 256 if tiny else 8192
    left, right = (torch.randn(size, size, dtype=dtype, device=device) for _ in range(2))
    left @ right
    return 2 * size**3 / min(seconds(lambda: left @ right, device) for _ in range(10))


# -- is it right? ------------------------------------------------------------------------------------------------------


def exactness(engine: Engine, layout: Layout, shard: Any, prompt: TokenIds) -> list[Row]:
    """Losses and gradient against plain passes, the gradient in float64; the same work twice, bit for bit."""
    losses = checks.check_losses(engine, layout, shard, prompt)
    gradient = checks.check_gradient(engine, layout, shard, prompt, LOSS, precise=True)
    again = Rollouts(shard, [prompt, prompt[::-1]], LOSS)
    texts = [_run(engine, again, layout) for _ in range(2)]
    known = [rollout.reasoning for rollout in texts[0][0]]
    work = _gradients(shard, prompt, known)
    gradients = [_run(engine, work, layout) for _ in range(2)]
    return [
        ("label loss, batched against plain", f"{losses.label:.1e} nats", f"largest loss {losses.scale:.1f}"),
        ("prompt NLL, batched against plain", f"{losses.prompt:.1e} nats", ""),
        (
            "gradient against differences in float64",
            f"{gradient.error:.1e} of its length",
            "share of the largest error",
        ),
        ("rollouts twice", "equal bytes" if texts[0] == texts[1] else "DIFFER", ""),
        (
            "gradients twice",
            "equal bytes" if gradients[0] == gradients[1] else "differ",
            "attention may add in any order",
        ),
    ]


# -- one step ----------------------------------------------------------------------------------------------------------


def _run(engine: Engine, work: Work[Any], layout: Layout) -> Any:
    return engine.run(Unit(work, layout))[0]


def _gradients(shard: Any, prompt: TokenIds, known: Sequence[TokenIds]) -> Gradients:
    middle = len(prompt) // 2
    return Gradients(shard, prompt, LOSS, reasoning=known, position=middle, depth=DEPTH, token_filter="none")


class Step:
    """One step of GReaTer at a load: a gradient over all rows, then rollouts of all candidates over all rows."""

    def __init__(self, engine: Engine, load: Load) -> None:
        self.engine, self.load, self.device = engine, load, engine.device
        self.layout, self.shards, self.prompts = load.layout(), load.shards(), load.prompts()
        # As in every step but the first, questions are known and so is the reasoning of the current prompt.
        self.known = []
        for shard in self.shards:
            (rollouts,) = _run(engine, Rollouts(shard, self.prompts[:1], LOSS), self.layout)
            self.known.append([rollout.reasoning for rollout in rollouts])
        assert all(len(r) == load.reasoning for known in self.known for r in known), "reasoning has its stated length"

    def gradients(self) -> None:
        """The gradient over all rows, and what its candidates weigh."""
        for shard, known in zip(self.shards, self.known, strict=True):
            found = _run(self.engine, _gradients(shard, self.prompts[0], known), self.layout)
        _run(self.engine, OneHotGradient(found.gradient, range(5, 15)), self.layout)

    def rollouts(self) -> None:
        """Reasoning and losses of all candidates over all rows."""
        for shard in self.shards:
            _run(self.engine, Rollouts(shard, self.prompts, LOSS), self.layout)

    def seconds(self, repeats: int) -> tuple[float, float]:
        """Return the seconds of gradient and rollouts."""
        self.gradients()
        return seconds(self.gradients, self.device, repeats), seconds(self.rollouts, self.device, repeats)

    # -- parts against the hardware ------------------------------------------------------------------------------------

    def decode(self, shards: int, bytes_a_second: float) -> tuple[float, float, float]:
        """Return seconds a token, the bytes' own seconds and their share, for the rows of so many shards at once.

        The time of many tokens less that of few, so that prefill and scoring fall out.
        """
        few, many = max(1, self.load.reasoning // 4), self.load.reasoning
        shard = tuple(example for part in self.shards[:shards] for example in part)
        work = Rollouts(shard, self.prompts, LOSS)
        _run(self.engine, work, self.load.layout(1))
        took = [seconds(lambda n=n: _run(self.engine, work, self.load.layout(n)), self.device) for n in (few, many)]  # type: ignore[misc]
        token = (took[1] - took[0]) / (many - few)
        sizes, rows = sizes_of(self.engine), len(shard) * len(self.prompts)
        length = self.lengths()[0] + 1 + self.load.prompt + (few + many) / 2
        needed = (sizes.weight_bytes + rows * length * sizes.kv_bytes) / bytes_a_second
        return token, needed, needed / token

    def lengths(self) -> tuple[int, int, int]:
        """Return the tokens of a row's question, of all that is fed after it, and of the label."""
        spans, example = self.engine.spans(self.layout), self.shards[0][0]
        label = len(spans.label(example))
        own = 1 + self.load.prompt + len(spans.suffix(example)) + self.load.reasoning
        return len(spans.head(example)) - 1, own + len(spans.extractor) + label, label

    def gradient_operations(self) -> tuple[float, float]:
        """Operations of one gradient over all rows, of matrices and of attention.

        Twice a forward pass, as no gradient of a weight is taken, and no more than one in front of the position: every
        token after the question meets all matrices, kept ones the head. Attention's backward pass takes twice its
        forward pass. Norms and what is computed again are not counted.
        """
        sizes, (question, fed, label) = sizes_of(self.engine), self.lengths()
        begun = 1 + self.load.prompt // 2
        places = self.load.prompt + label
        matrices = (4 * fed - 2 * begun) * sizes.multiplied + (4 * places - 2 * begun) * sizes.head
        attention = 4 * (3 * fed * (question + fed / 2) - 2 * begun * (question + begun / 2)) * sizes.attention
        return self.load.rows * matrices, self.load.rows * attention

    def memory(self) -> tuple[int, int]:
        """Return the peak of a rollouts unit in bytes, above the weights, and what the formula says.

        Keys and values in all slots that a row may need, those of remembered questions, and the prompts' logits.
        """
        torch.cuda.reset_peak_memory_stats(self.device)
        before = sum(p.numel() * p.element_size() for p in self.engine.model.parameters())
        _run(self.engine, Rollouts(self.shards[0], self.prompts, LOSS), self.layout)
        load, sizes, (question, fed, _) = self.load, sizes_of(self.engine), self.lengths()
        rows = len(self.shards[0]) * len(self.prompts)
        slots = question + fed + self.layout.max_answer_tokens
        logits = rows * (load.prompt + 1) * self.engine.config.vocab_size * self.engine.model.dtype.itemsize
        said = (rows * slots + load.rows * question) * sizes.kv_bytes + logits
        return torch.cuda.max_memory_allocated(self.device) - before, said


# -- what it is compared with ------------------------------------------------------------------------------------------


def published(engine: Engine, load: Load) -> tuple[float, list[Row]]:
    """Seconds of a step in the structure of the published code, scaled from one batch and a few rows.

    Parts of it: rows come in batches of nine; those of a candidate in two halves.
    """
    layout, rows, prompt = load.layout(), load.examples()[:BATCH], load.prompts()[0]
    model = ReferenceModel(engine, layout)
    device = engine.device
    model._generate(rows[:2], prompt)  # warm
    generated = seconds(lambda: model._generate(rows, prompt), device)
    scored = seconds(lambda: model._score(rows, prompt, LOSS), device) - generated
    few = rows[:3]
    work = Gradients(few, prompt, LOSS, position=len(prompt) // 2, depth=DEPTH, token_filter="none")
    short = seconds(lambda: model._generate(few, prompt), device)
    model.ask(work)
    single = max(seconds(lambda: model.ask(work), device) - short, 0.0) / len(few)
    half = -(-((load.rows + 1) // 2) // BATCH)
    batches, scorings = -(-load.rows // BATCH) + load.candidates * 2 * half, load.candidates * 2 * half
    step = batches * generated + scorings * max(scored, 0.0) + load.rows * single
    return step, [
        ("published: one batch of nine is generated in", f"{generated:.2f} s", f"{batches} of them in a step"),
        ("published: one batch is scored in", f"{max(scored, 0.0):.2f} s", f"{scorings} of them"),
        ("published: proposals and gradient of a row", f"{single:.3f} s", f"{load.rows} of them"),
    ]


def hugging_face(engine: Engine, load: Load, rows: int) -> float:
    """Return seconds a token of ``model.generate`` with so many rows in one batch."""
    heads = [list(engine.spans(load.layout()).head(e)) + list(load.prompts()[0]) for e in load.examples()]
    batch = [heads[k % len(heads)] for k in range(rows)]
    width = max(map(len, batch))
    ids = torch.tensor([[1] * (width - len(r)) + r for r in batch], device=engine.device)
    mask = torch.tensor([[0] * (width - len(r)) + [1] * len(r) for r in batch], device=engine.device)

    def generate(tokens: int) -> None:
        engine.model.generate(
            ids, attention_mask=mask, max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False, pad_token_id=1
        )

    few, many = max(1, load.reasoning // 8), max(2, load.reasoning // 2)
    generate(2)
    took = [seconds(lambda n=n: generate(n), engine.device) for n in (few, many)]  # type: ignore[misc]
    return (took[1] - took[0]) / (many - few)
