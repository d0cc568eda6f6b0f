"""Every method with settings small enough for a tiny random model, for tests that hold for all of them."""

from importlib.util import find_spec
from typing import Any

from greater_ray.methods._writer import TextConfig
from greater_ray.plugins import available, load

# A method may need a package that is not installed.
METHODS = [n for n in available("methods") if find_spec(getattr(load("methods", n), "package", "greater_ray"))]
# A method that optimizes nothing has no steps.
STEPPING = [name for name in METHODS if load("methods", name).presets["paper"]["budget"]["steps"]]
# Methods that ask for text. A tiny random model writes nothing readable, so another writer takes its place.
WRITING = [name for name in METHODS if issubclass(load("methods", name).config_type, TextConfig)]
WRITER = {"optimizer_model": {"name": "tests.babbler:load"}}
# What a method needs to be told: what it cannot do without, and sizes that fit so few rows.
NEEDED: dict[str, dict[str, Any]] = {
    "ape": {"method_config": {"queries": 30, "demonstrations": 2, "samples_per_query": 3, "num_scored": 2}},
    "ape-iterative": {"method_config": {"train_steps": 30, "n_beam": 2, "n_expand": 2}},
    "apo": {"method_config": {"train_steps": 30, "n_beam": 2, "n_expand": 2}},
    "pe2": {"method_config": {"train_steps": 30, "n_beam": 2, "n_expand": 2, "history": True}},
    "protegi": {
        "method_config": {"rounds": 30, "beam_size": 2, "n_gradients": 1, "eval_rounds": 1, "samples_per_eval": 3}
    },
    "fixed": {"method_config": {"prompt": "Take care."}},
    "evoprompt-de": {"method_config": {"population": 4, "seed_prompts": ["Think.", "Check it."]}},
    "evoprompt-ga": {"method_config": {"population": 4, "seed_prompts": ["Think.", "Check it."]}},
    "gpo": {"method_config": {"batch_size": 2, "num_proposals": 3, "exemplars": 4}},
    "opro": {"method_config": {"num_proposals": 3}},
    "pez": {"method_config": {"iterations": 5}},
    "textgrad": {"method_config": {"batch_size": 2}},
    # A random model answers nothing rightly, so that it could show no rationale.
    "few-shot": {"method_config": {"style": "answer-only"}},
    # A sweep of two steps, so that the third step asks for text.
    "greater-textual": {
        "method_config": {"initial_prompt": "think step", "feedback_every": 2, "dynamic_length": False}
    },
}
# A random model never ends by itself.
NEEDED["tests.writing:PLUGIN"] = {"method_config": {"max_new_tokens": 8}}
STEPS = 3
USUAL_STEPS = {name: load("methods", name).presets["paper"]["budget"]["steps"] for name in METHODS}
# A method that only prepares its prompt is finished before a budget or patience could end it.
SEARCHING = [name for name in STEPPING if USUAL_STEPS[name] >= STEPS]

# What makes a run of any method small.
SMALL: dict[str, Any] = {
    "task": {"data": "synthetic", "train_size": 4, "dev_size": 3, "test_size": 3},
    "decoding": {"max_reasoning_tokens": 4, "max_answer_tokens": 2},
    "shard_size": 2,
}


def settings_of(method: str) -> dict[str, Any]:
    """Return the writer, the sizes and the number of steps that a method needs beside ``SMALL``."""
    steps = {"budget": {"steps": min(STEPS, USUAL_STEPS.get(method, STEPS))}}
    return steps | (WRITER if method in WRITING else {}) | NEEDED.get(method, {})
