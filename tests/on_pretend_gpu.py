"""The engine on a pretended GPU, on two of them and on the CPU, in a process of its own: all results, and what it took.

Prints one JSON object per family. ``works`` holds pairs of results, ``counts`` launches, waits and uploads. Of a model
that is spread over two cards, ``works`` holds the results there and on one card, ``across`` the copies from card to
card, and ``places`` where its weights lie.
"""

import dataclasses
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from greater_ray.config import ModelConfig
from greater_ray.models import sources
from greater_ray.models._attention import register
from greater_ray.models._layers import make_lean
from greater_ray.models.engine import Engine
from greater_ray.types import Example, Layout, LossSpec, Message, TokenIds
from greater_ray.work import (
    Answers,
    EncodePrompt,
    Generate,
    Gradients,
    NearestTokens,
    OneHotGradient,
    PromptGradients,
    Proposals,
    Rollouts,
    SteepestTokens,
    TextEmbeddings,
    TokenEmbeddings,
    Unit,
    Work,
)
from tests import pretend_gpu
from tests.families import save_tiny, tiny_model
from tests.pretend_gpu import Counts, MixedDevicesError, OnDevice

FAMILIES = ("llama", "gemma2")
CARDS = ",".join(f"{pretend_gpu.NAME}:{number}" for number in range(2))
SHARD = tuple(Example(str(k), "How many apples? " * (1 + k % 3), "7", "7") for k in range(5))
LAYOUT = Layout("so the answer is", max_reasoning_tokens=10, max_answer_tokens=3)
CHOICES = dataclasses.replace(LAYOUT, choices=("7", "12", "a dozen"))
TALK = [(Message("user", f"hello {k}"),) for k in range(3)]
LOSS = LossSpec()

Run = Callable[[Work[Any], Layout], Any]


def engine_of(family: str, *, on_gpu: bool) -> Engine:
    """Return an engine whose rows do not end by themselves."""
    model, tokenizer = tiny_model(family)
    if model.config._attn_implementation == "eager":
        model.set_attn_implementation(register())
    if on_gpu:
        pretend_gpu.move(model)
    make_lean(model)
    engine = Engine(model, tokenizer)
    stop_at(engine, frozenset())
    return engine


def loaded(folder: Path, device: str, dtype: str = "float32") -> Engine:
    """Return such an engine from a folder, as a user's command loads it."""
    config = ModelConfig(name=str(folder), device=device, dtype=dtype)
    with pretend_gpu.gpu():
        model, tokenizer = sources.load(sources.resolve(config), config)
        if model.config._attn_implementation == "eager":
            model.set_attn_implementation(register())
        lean = make_lean(model)
        engine = Engine(model, tokenizer, facts={"lean": lean})
    stop_at(engine, frozenset())
    return engine


def stop_at(engine: Engine, tokens: frozenset[int]) -> None:
    engine.decoder = engine._writer.decoder = dataclasses.replace(engine.decoder, stop_tokens=tokens)


def works(run: Run, prompt: TokenIds) -> Iterator[tuple[str, Work[Any], Layout]]:
    """Yield work of every kind that computes with tensors, with a name."""
    (rollouts,) = run(Rollouts(SHARD, [prompt], LOSS), LAYOUT)
    known = [rollout.reasoning for rollout in rollouts]
    gradients = Gradients(SHARD, prompt, LOSS, reasoning=known, position=1, depth=3, token_filter="none")
    vector = run(gradients, LAYOUT).gradient
    yield "rollouts", Rollouts(SHARD, [prompt, prompt[::-1]], LOSS), LAYOUT
    yield "rollouts of known reasoning", Rollouts(SHARD, [prompt], LOSS, reasoning=known), LAYOUT
    yield "rollouts with choices", Rollouts(SHARD, [prompt], LossSpec(label="choice")), CHOICES
    yield "gradients", gradients, LAYOUT
    yield "prompt gradients", PromptGradients(SHARD, prompt, LOSS, reasoning=known), LAYOUT
    chosen = PromptGradients(SHARD, prompt, LossSpec(label="choice"), reasoning=known)
    yield "prompt gradients with choices", chosen, CHOICES
    yield "one-hot gradient", OneHotGradient(vector, (5, 6)), LAYOUT
    yield "steepest tokens", SteepestTokens(vector, 4, "none"), LAYOUT
    yield "token embeddings", TokenEmbeddings((5, 6)), LAYOUT
    yield "nearest tokens", NearestTokens((vector,), "none"), LAYOUT
    yield "proposals", Proposals(SHARD, prompt, 1, 4, "none"), LAYOUT
    yield "answers", Answers(SHARD, [prompt]), LAYOUT
    yield "answers with choices", Answers(SHARD, [prompt], score_choices=True), CHOICES
    yield "generate, greedy", Generate(TALK, [0, 1, 2], 5, 0.0), LAYOUT
    yield "generate, sampled", Generate(TALK, [0, 1, 2], 5, 0.7), LAYOUT
    yield "text embeddings", TextEmbeddings(["one text", "and another one"]), LAYOUT
    yield (
        "prompt in front",
        Rollouts(SHARD, [prompt, prompt[::-1]], LOSS),
        dataclasses.replace(LAYOUT, placement="before"),
    )


def plain(result: Any) -> Any:
    """Return a result as JSON has it."""
    if dataclasses.is_dataclass(result) and not isinstance(result, type):
        return plain(dataclasses.astuple(result))
    return [plain(part) for part in result] if isinstance(result, (list, tuple)) else result


def on_gpu(engine: Engine, unit: tuple[Work[Any], Layout]) -> tuple[Any, Counts]:
    """Run work on pretended cards, and count what happens."""
    with pretend_gpu.gpu() as counted:
        return plain(engine.run(Unit(*unit))[0]), counted


def spread(engine: Engine, units: dict[str, tuple[Work[Any], Layout]], one_card: dict[str, Any]) -> dict[str, Any]:
    """Run work on an engine over two cards, beside what one card gave."""
    found = {title: on_gpu(engine, unit) for title, unit in units.items()}
    return {
        "works": {title: [result, one_card[title]] for title, (result, _) in found.items()},
        "across": {title: counts["across"] for title, (_, counts) in found.items()},
        "lean": engine.facts["lean"],
        "places": {name: str(parameter.device) for name, parameter in engine.model.named_parameters()},
    }


def tied_in_half_precision(folder: Path) -> dict[str, Any]:
    """Run some work on a model in bfloat16 whose head, our own, has the weights of the embedding on the first card."""
    save_tiny("gemma2", folder, layers=3)
    one = loaded(folder, f"{pretend_gpu.NAME}:0", "bfloat16")
    with pretend_gpu.gpu():
        prompt = one.run(Unit(EncodePrompt(" think"), LAYOUT))[0]
    shard, known = SHARD[:2], [(5, 6, 7), (8,)]
    units = {
        "answers": (Answers(shard, [prompt], score_choices=True), CHOICES),
        "gradients": (
            Gradients(shard, prompt, LOSS, reasoning=known, position=0, depth=3, token_filter="none"),
            LAYOUT,
        ),
        "text embeddings": (TextEmbeddings(["one text", "and another one"]), LAYOUT),
    }
    found = spread(
        loaded(folder, CARDS, "bfloat16"), units, {title: on_gpu(one, unit)[0] for title, unit in units.items()}
    )
    return found | {"head": type(one.model.get_output_embeddings()).__name__}


def family(name: str) -> dict[str, Any]:
    """Run all work of one family on both."""
    cpu = engine_of(name, on_gpu=False)
    with pretend_gpu.gpu():
        gpu = engine_of(name, on_gpu=True)
    counts: dict[str, Counts] = {}

    def here(work: Work[Any], layout: Layout) -> Any:
        return cpu.run(Unit(work, layout))[0]

    def there(work: Work[Any], layout: Layout, title: str) -> Any:
        with pretend_gpu.gpu() as counted:
            result = gpu.run(Unit(work, layout))[0]
        counts[title] = counted
        return result

    prompt = here(EncodePrompt(" think step by step"), LAYOUT)
    units = {title: (work, layout) for title, work, layout in works(here, prompt)}
    pairs = {title: [plain(there(*unit, title)), plain(here(*unit))] for title, unit in units.items()}
    two = {}
    if name == "llama":
        with tempfile.TemporaryDirectory() as folder:
            engine = loaded(save_tiny(name, Path(folder)), CARDS)
        two = spread(engine, units, {title: result for title, (result, _) in pairs.items()})
    for tokens in (4, 12):
        for rows in (2, 5):
            layout = dataclasses.replace(LAYOUT, max_reasoning_tokens=tokens)
            for _ in range(2):  # the questions' keys and values are there when it is counted
                there(Rollouts(SHARD[:rows], [prompt], LOSS), layout, f"{tokens} tokens, {rows} rows")
    both = Rollouts(SHARD, [prompt, prompt[::-1]], LOSS)
    found = [token for rows in here(both, LAYOUT) for row in rows for token in row.reasoning[2::3]]
    for engine in (gpu, cpu):
        stop_at(engine, frozenset(found[:4]))
    pairs["rows that end early"] = [plain(there(both, LAYOUT, "rows that end early")), plain(here(both, LAYOUT))]
    mixed = []
    with pretend_gpu.gpu():
        weight = gpu.model.get_input_embeddings().weight
        for wrong in (
            lambda: gpu.model(input_ids=torch.tensor([[1, 2]])),
            lambda: weight + torch.ones(weight.shape[1]),
        ):
            try:
                wrong()
            except MixedDevicesError as error:
                mixed.append(str(error))
    told = {
        title: {"launches": c.launches, "syncs": c.syncs, "uploads": c["upload"]}
        for title, c in counts.items()
        if title
    }
    return {"works": pairs, "counts": told, "mixed": mixed, "two": two}


def loading() -> dict[str, Any]:
    """Load a folder onto the device, as a user's command does."""
    with tempfile.TemporaryDirectory() as folder:
        config = ModelConfig(name=str(save_tiny("llama", Path(folder))), device=pretend_gpu.NAME)
        with pretend_gpu.gpu() as counts:
            model, _ = sources.load(sources.resolve(config), config)
    tensors = [*model.parameters(), *model.buffers()]
    there = sum(isinstance(tensor, OnDevice) for tensor in tensors)
    return {"tensors": len(tensors), "there": there, "uploads": counts["upload"], "syncs": counts.syncs}


if __name__ == "__main__":
    torch.set_num_threads(1)
    os.environ["HF_DEACTIVATE_ASYNC_LOAD"] = "1"  # what is pretended holds in one thread
    pretend_gpu.device()
    with tempfile.TemporaryDirectory() as made:
        tied = tied_in_half_precision(Path(made))
    found = {"loading": loading(), "tied": tied, **{name: family(name) for name in FAMILIES}}
    json.dump(found, sys.stdout)
