"""The engine on a pretended GPU and on the CPU, in a process of its own: results of both, and what the GPU had to do.

Prints one JSON object per family. ``works`` holds pairs of results, ``counts`` launches, waits and uploads.
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
    pairs = {title: [plain(there(*unit, title)), plain(here(*unit))] for title, *unit in works(here, prompt)}
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
    return {"works": pairs, "counts": told, "mixed": mixed}


def loading() -> dict[str, Any]:
    """Load a folder onto the device, as a user's command does."""
    os.environ["HF_DEACTIVATE_ASYNC_LOAD"] = "1"  # what is pretended holds in one thread
    with tempfile.TemporaryDirectory() as folder:
        config = ModelConfig(name=str(save_tiny("llama", Path(folder))), device=pretend_gpu.NAME)
        with pretend_gpu.gpu() as counts:
            model, _ = sources.load(sources.resolve(config), config)
    tensors = [*model.parameters(), *model.buffers()]
    there = sum(isinstance(tensor, OnDevice) for tensor in tensors)
    return {"tensors": len(tensors), "there": there, "uploads": counts["upload"], "syncs": counts.syncs}


if __name__ == "__main__":
    torch.set_num_threads(1)
    pretend_gpu.device()
    json.dump({"loading": loading(), **{name: family(name) for name in FAMILIES}}, sys.stdout)
