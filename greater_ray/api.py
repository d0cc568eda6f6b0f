"""The Python interface: resolve settings, build the parts by name, run them.

from greater_ray import optimize
record = optimize(model="smollm2-135m", task="bbh/navigate", data="synthetic", steps=8)
print(record.best.full_text)
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from greater_ray.config import ModelConfig, TrialConfig, merged, parse
from greater_ray.errors import ConfigError, ModelError, unknown_name
from greater_ray.evaluate import evaluate_shards, summarize
from greater_ray.plugins import load
from greater_ray.protocols import Executor, Method, ResolvesConfig, Task
from greater_ray.provenance import processor
from greater_ray.records import EvaluationRecord, ExampleRecord, TrialRecord
from greater_ray.sharding import LocalExecutor, ShardedModel, ShardedWriter
from greater_ray.store import RunStore, refuse_foreign
from greater_ray.trial import Observer, Silent, Trial
from greater_ray.types import TokenIds, split_shards
from greater_ray.work import BaseEngine, EncodePrompt

Progress = Callable[[str], None]


class Served(NamedTuple):
    """A model that is ready for calls, wherever it runs, and facts about it for the record.

    ``hardware`` names the GPU or the processor that computes it.
    """

    executor: Executor
    facts: dict[str, Any]
    hardware: str = ""


# Gives the models that a trial names: loads them into this process, or hands out pools of replicas.
Models = Callable[[ModelConfig], Served]


def load_engine(config: ModelConfig, progress: Progress | None = None) -> BaseEngine:
    """Return what answers a model's calls: an ``Engine``, or one's own object for ``package.module:factory``.

    ``openai/NAME`` stands for an endpoint, which can only write.

    Raises:
        ModelError: it cannot be found or loaded.
    """
    from greater_ray.models._openai import EndpointWriter, is_endpoint

    if is_endpoint(config.name):
        return EndpointWriter(config)
    if ":" in config.name and not Path(config.name).exists():
        engine: BaseEngine = load("models", config.name)(config)
        return engine
    from greater_ray.models.engine import Engine

    return Engine.load(config, progress)


def local_models(progress: Progress | None = None) -> Models:
    """Load models into this process, each one once."""
    loaded: dict[ModelConfig, Served] = {}

    def serve(config: ModelConfig) -> Served:
        if config not in loaded:
            engine = load_engine(config, progress)
            loaded[config] = Served(LocalExecutor(engine), engine.facts, engine.hardware or processor())
        return loaded[config]

    return serve


def resolve_config(settings: Mapping[str, Any]) -> TrialConfig:
    """Return the complete config for nested ``settings``: theirs first, then the model's profile, then the preset.

    Raises:
        ConfigError: an unknown name or key, or a value that is not allowed.
    """
    from greater_ray.models._openai import refuse_endpoint
    from greater_ray.models._sources import profile_for
    from greater_ray.tasks._registry import expand, extractor, load_task

    given = merged(settings)
    for option in ("model", "task", "optimizer_model"):
        if isinstance(given.get(option), str):
            given[option] = {"name": given[option]}
    for option in ("model", "task"):
        if not isinstance(given.get(option), Mapping) or not given[option].get("name"):
            raise ConfigError(f"--{option}: missing; `greater-ray list {option}s` shows what there is.")
    method: Method[Any, Any] = load("methods", given.get("method", "greater"))
    presets = {"paper": {}, **method.presets}
    preset = given.get("preset", "paper")
    if preset not in presets:
        raise unknown_name("--preset", preset, presets)
    profile = profile_for(given["model"]["name"])
    defaults = {
        "task": {"extractor": profile.extractor},
        "decoding": {"max_reasoning_tokens": profile.max_reasoning_tokens},
    }
    config: TrialConfig = parse(TrialConfig, _without_none(merged(presets[preset], defaults, given)))
    if not any(config.budget.model_dump().values()) and config.budget.steps is None:
        raise ConfigError("--steps: nothing ends this run; give --steps, --patience, --max-tokens or --max-seconds.")
    refuse_endpoint(config.model)
    names = expand(config.task.name)
    if len(names) > 1:
        raise ConfigError(f"--task: '{config.task.name}' is a group of {len(names)} tasks; name one of them.")
    extractor(load_task(config.task), config.task.extractor)
    method_config = parse(method.config_type, config.method_config, "method_config")
    if isinstance(method, ResolvesConfig):
        method_config = method.resolve(method_config, names[0])
    return config.model_copy(
        update={
            "task": config.task.model_copy(update={"name": names[0]}),
            "method_config": method_config.model_dump(mode="json"),
        }
    )


def _without_none(value: Mapping[str, Any]) -> dict[str, Any]:
    """Drop unset values, so that the config's own defaults hold."""
    kept = {k: _without_none(v) if isinstance(v, Mapping) else v for k, v in value.items()}
    return {k: v for k, v in kept.items() if v is not None}


def load_parts(config: TrialConfig, models: Models | None = None) -> tuple[Task, ShardedModel, dict[str, Any]]:
    """Load rows first, then the model: a mistake in the data shows before the long part."""
    from greater_ray.tasks._registry import extractor, load_task

    task = load_task(config.task)
    task.train(), task.dev()
    served = (models or local_models())(config.model)
    layout = config.make_layout(*extractor(task, config.task.extractor))
    return task, ShardedModel(served.executor, layout, config.shard_size), served.facts


def load_method(config: TrialConfig) -> tuple[Method[Any, Any], Any]:
    """Return the method that a config names, and its options."""
    method: Method[Any, Any] = load("methods", config.method)
    return method, parse(method.config_type, config.method_config, "method_config")


def row_hash(task: Task) -> dict[str, str]:
    """Return the hash of a task's rows under its name, if the task tells one."""
    rows = task.provenance.get("rows_sha256")
    return {} if rows is None else {"rows": rows}


def input_hashes(config: TrialConfig, task: Task, facts: Mapping[str, Any], writer: Served) -> dict[str, str]:
    """Return the hashes of what a config only names: rows, and the weights of model and writer, as far as told."""
    weights = {"weights": facts.get("weights")}
    if config.optimizer_model is not None:
        weights["optimizer_weights"] = writer.facts.get("weights")
    return {**row_hash(task), **{name: value for name, value in weights.items() if value is not None}}


def run_config(
    config: TrialConfig,
    out: Path | None = None,
    *,
    observer: Observer | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    models: Models | None = None,
    files: Mapping[str, str] | None = None,
) -> TrialRecord:
    """Run, or continue, the optimization that a resolved config describes; ``models`` says where its models run.

    ``files`` are hashes of the models' files, noted in ``config.json`` beside those of rows and weights.

    Raises:
        GreaterRayError: a wrong setting, wrong data, an unusable model or folder; ``Interrupted`` when asked to stop.
    """
    from greater_ray.tasks._registry import load_task

    observer = observer or Silent()
    if out is not None:
        refuse_foreign(out)
    store = RunStore(out, config) if out is not None and (out / "config.json").exists() else None
    try:
        # A folder that is finished, or belongs to another run, is told before the long part.
        if store is not None:
            if config.task.data != "hub" or config.task.rows is not None:
                store.match_inputs(row_hash(load_task(config.task)))
            record = store.load_record()
            if record is not None:
                observer.finished(record)
                return record
        models = models or local_models()
        task, model, facts = load_parts(config, models)
        writer = serve_writer(config, models)
        # Only now is a new folder claimed: a mistyped model leaves nothing behind.
        if store is None and out is not None:
            store = RunStore(out, config)
        if store is not None:
            store.match_inputs({**input_hashes(config, task, facts, writer), **(files or {})})
        method, method_config = load_method(config)
        return Trial(
            config=config,
            task=task,
            method=method,
            method_config=method_config,
            model=model,
            model_facts=facts,
            hardware=models(config.model).hardware,
            store=store,
            observer=observer,
            should_stop=should_stop,
            optimizer=ShardedWriter(writer.executor),
            optimizer_facts=writer.facts if config.optimizer_model is not None else None,
        ).run()
    finally:
        if store is not None:
            store.close()


def serve_writer(config: TrialConfig, models: Models) -> Served:
    """Return the model that writes; an error names the setting that it comes from."""
    if config.optimizer_model is None:
        return models(config.model)
    try:
        return models(config.optimizer_model)
    except (ConfigError, ModelError) as error:
        raise type(error)(re.sub(r"^(--)?model(?=[.:])", _as_optimizer, str(error))) from error


def _as_optimizer(found: re.Match[str]) -> str:
    return "--optimizer-model" if found[1] else "optimizer_model"


def _named(value: str | Mapping[str, Any]) -> Mapping[str, Any]:
    return {"name": value} if isinstance(value, str) else value


def optimize(
    model: str | Mapping[str, Any],
    task: str | Mapping[str, Any],
    method: str = "greater",
    *,
    out: str | Path | None = None,
    data: str | None = None,
    steps: int | None = None,
    seed: int = 0,
    **settings: Any,
) -> TrialRecord:
    """Optimize one prompt and return its record; ``settings`` are further sections of ``TrialConfig``.

    ``model`` and ``task`` are names, or mappings such as ``{"name": "gsm8k", "train_size": 20}``. With ``out`` the run
    is kept in that folder and continues there when it was interrupted.
    """
    own = {
        "model": _named(model),
        "task": merged(_named(task), {"data": data}),
        "method": method,
        "seed": seed,
        "budget": {} if steps is None else {"steps": steps},
    }
    return run_config(resolve_config(merged(own, settings)), Path(out) if out is not None else None)


def evaluate_prompt(
    config: TrialConfig,
    prompt: str | TokenIds,
    split: str = "test",
    *,
    on_rows: Callable[[int, int], None] = lambda done, of: None,
    models: Models | None = None,
) -> EvaluationRecord:
    """Score one prompt, given as text or as token ids, on a split, as a trial's final evaluation does.

    Raises:
        ConfigError: the prompt is empty or the split is unknown or has no rows.
    """
    task, model, _ = load_parts(config, models)
    loaders = {"train": task.train, "dev": task.dev, "test": task.test}
    if split not in loaders:
        raise unknown_name("--split", split, loaders)
    if isinstance(prompt, str):
        text = prompt if prompt[:1].isspace() else " " + prompt
        ids = model.ask(EncodePrompt(text)) if prompt.strip() else ()
    else:
        ids = prompt
    if not ids:
        raise ConfigError(f"--prompt: {prompt!r} has no tokens; give at least one word.")
    rows = loaders[split]()
    if not rows:
        raise ConfigError(f"--split: '{split}' of '{config.task.name}' has no rows.")
    answers: list[ExampleRecord] = []
    for shard in split_shards(rows, config.shard_size):
        on_rows(len(answers), len(rows))
        for part in evaluate_shards(task, model, shard, ids, config.shard_size):
            answers.extend(part)
    on_rows(len(answers), len(rows))
    return summarize(split, ids, answers)


def evaluate(
    prompt: str,
    model: str | Mapping[str, Any],
    task: str | Mapping[str, Any],
    *,
    split: str = "test",
    data: str | None = None,
    **settings: Any,
) -> EvaluationRecord:
    """Score one prompt, exactly as it is, on a split of a task; ``settings`` are sections of ``TrialConfig``."""
    own = {
        "model": _named(model),
        "task": merged(_named(task), {"data": data}),
        "layout": {"frozen_prefix": ""},
    }
    return evaluate_prompt(resolve_config(merged(own, settings)), prompt, split)
