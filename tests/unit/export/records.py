"""Records whose prompts are hard to hand on: braces, quotes, markup of templates, every placement, demonstrations."""

from dataclasses import replace
from typing import Any

from greater_ray.config import TrialConfig
from greater_ray.records import PromptRecord, TrialRecord
from greater_ray.tasks import extractor, load_task
from greater_ray.types import Demonstration, Layout, Usage

# Everything that jinja2, nunjucks, YAML, JSON, Python or our own slots would read as something else.
ODD = (
    """ {{ x }} {% if y %} {# z #} {a} {question} }} %} \\n 'single' "double" \"\"\"three\"\"\" """
    "$HOME ${b} <b>: - é\n#{c}\t{{{d}}}"
)

PLACED: dict[str, dict[str, Any]] = {
    "after": {},
    "before": {"placement": "before", "joint": "\n\n"},
    "system": {"placement": "system"},
    "own": {"placement": "Q{: {question}\n{prompt} :}"},
    "fixed system": {"system": "Be {{ brief }}."},
}
SHOWN = (
    {"id": "a", "question": "True {{ or }} False is", "label": "True", "rationale": "One {% is %} true."},
    {"id": "b", "question": "not True is", "label": "False"},
)
SIZES = ("train_size", "dev_size", "test_size")
# What a question may hold.
QUESTION = 'not {{ True }} and {% "so" %} on is'


def record(
    layout: dict[str, Any] | None = None, shown: tuple[dict[str, Any], ...] = (), text: str = ODD, **more: Any
) -> TrialRecord:
    """Return the record of a trial that found a prompt, without any answers."""
    config = TrialConfig.model_validate(
        {
            "model": {"name": "openai/tiny"},
            "task": {
                "name": "bbh/boolean_expressions",
                "data": "synthetic",
                "train_size": 2,
                "dev_size": 2,
                "test_size": 2,
            },
            "layout": layout or {},
            "decoding": {"max_reasoning_tokens": 6, "max_answer_tokens": 3},
            **more.pop("config", {}),
        }
    )
    frozen = config.layout.frozen_prefix
    best = PromptRecord(ids=(1,), text=text, full_text=frozen + text, survives_retokenization=True,
                        demonstrations=shown, nearest=more.pop("nearest", 0))  # fmt: skip
    values: dict[str, Any] = {
        "trial_id": config.trial_id(), "config": config, "stop_reason": "steps", "steps": 1, "initial": best,
        "best": best,        "finalists": (best,), "evaluations": (), "comparisons": (), "optimization_usage": Usage(),
        "evaluation_usage": Usage(), "task": {}, "model": {}, "environment": {},
    }  # fmt: skip
    return TrialRecord(**values | more)


def turns_of(trial: TrialRecord, question: str) -> list[dict[str, str]]:
    """Return the messages as the search builds them."""
    layout = layout_of(trial)
    turns = layout.conversation(question, trial.best.text, system_role=trial.model.get("system_role", True))
    return [turn._asdict() for turn in turns]


def layout_of(trial: TrialRecord) -> Layout:
    """Return the layout that the trial's model was asked with."""
    said = extractor(load_task(trial.config.task), trial.config.task.extractor)
    rows = tuple(Demonstration(**d.model_dump()) for d in trial.best.demonstrations)
    return replace(trial.config.make_layout(*said), demonstrations=rows, demonstrated=trial.best.text)
