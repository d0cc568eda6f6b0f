"""The composition root: settings become a complete config, and the names in a config become parts, each loaded once."""

import gc
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from greater_ray.config import ModelConfig, TrialConfig, fingerprint, parse
from greater_ray.errors import ConfigError, ModelError, UnsupportedError, unknown_name
from greater_ray.plugins import load
from greater_ray.protocols import Executor, Method, NeedsWork, ResolvesConfig, Task
from greater_ray.provenance import processor
from greater_ray.settings import merged
from greater_ray.sharding import LocalExecutor, ShardedModel, ShardedWriter
from greater_ray.work import BaseEngine, EncodePrompt, RenderedTurns, Work

if TYPE_CHECKING:
    from greater_ray.models.engine import Engine

Progress = Callable[[str], None]


class Served(NamedTuple):
    """A model that is ready for calls, wherever it runs, and facts about it for the record.

    ``hardware`` names the GPU or the processor that computes it. ``shard_size`` is that of the model where the config's
    does not apply, ``kinds`` the work that it can do, None if that is not known.
    """

    executor: Executor
    facts: dict[str, Any]
    hardware: str = ""
    shard_size: int | None = None
    kinds: frozenset[type[Work[Any]]] | None = None


# Gives the models that a trial names: loads them into this process, or hands out pools of replicas.
Models = Callable[[ModelConfig], Served]


def load_engine(config: ModelConfig, progress: Progress | None = None) -> BaseEngine:
    """Return what computes a model's units: an ``Engine``, or one's own ``BaseEngine`` for ``package.module:factory``.

    ``openai/NAME`` stands for an endpoint.

    Raises:
        ModelError: it cannot be found or loaded.
    """
    from greater_ray.models.endpoint import EndpointEngine, check_model, is_endpoint

    check_model(config)
    if is_endpoint(config.name):
        return EndpointEngine(config)
    if ":" in config.name and not Path(config.name).exists():
        factory = load("models", config.name)
        if not callable(factory):
            raise ConfigError(
                f"'{config.name}' is no function that gives a model.", setting="model.name", value=config.name
            )
        engine = factory(config)
        if not isinstance(engine, BaseEngine):
            why = f"'{config.name}' gives a {type(engine).__name__}; a model derives from greater_ray.work.BaseEngine."
            raise ConfigError(why, setting="model.name", value=config.name)
        return engine
    from greater_ray.models.sources import resolve

    source = resolve(config, progress)  # before the imports, which take seconds: what is missing is told at once
    return _engine_class().load(config, progress, source)


def _engine_class() -> "type[Engine]":
    """Import torch and transformers, where that is still to be done, without a look for garbage among their modules.

    Else every fifth second of the processor's time goes into looks that find none; and every look to come would go
    through all of it again. What is garbage before goes first, since frozen it would stay.
    """
    looks = "transformers" not in sys.modules and gc.isenabled()
    if looks:
        gc.collect()
        gc.disable()
    try:
        from greater_ray.models.engine import Engine
    finally:
        if looks:
            gc.freeze()
            gc.enable()
    return Engine


def local_models(progress: Progress | None = None) -> Models:
    """Load models into this process, each one once."""
    loaded: dict[ModelConfig, Served] = {}

    def serve(config: ModelConfig) -> Served:
        if config not in loaded:
            engine = load_engine(config, progress)
            hardware = engine.hardware or processor()
            loaded[config] = Served(LocalExecutor(engine), engine.facts, hardware, engine.shard_size, engine.kinds)
        return loaded[config]

    return serve


def resolve_config(settings: Mapping[str, Any]) -> TrialConfig:
    """Return the complete config for nested ``settings``: theirs first, then the model's profile, then the preset.

    Raises:
        ConfigError: an unknown name or key, or a value that is not allowed.
    """
    from greater_ray.models.sources import profile_for
    from greater_ray.tasks import answer_room, expand, extractor, load_task

    given = merged(settings)
    for option in ("model", "task", "optimizer_model"):
        if isinstance(given.get(option), str):
            given[option] = {"name": given[option]}
    for option in ("model", "task"):
        if not isinstance(given.get(option), Mapping) or not given[option].get("name"):
            raise ConfigError(f"missing; name a {option}.", setting=f"{option}.name")
    method: Method[Any, Any] = load("methods", given.get("method", "greater"))
    presets = {"paper": {}, **method.presets}
    preset = given.get("preset", "paper")
    if preset not in presets:
        raise unknown_name("preset", preset, presets)
    profile = profile_for(given["model"]["name"])
    defaults = {
        "task": {"extractor": profile.extractor},
        "decoding": {
            "max_reasoning_tokens": profile.max_reasoning_tokens,
            "max_answer_tokens": answer_room(str(given["task"]["name"])),
        },
    }
    config: TrialConfig = parse(TrialConfig, _without_none(merged(presets[preset], defaults, given)))
    if not any(config.budget.model_dump().values()) and config.budget.steps is None:
        why = "nothing ends this run; give §budget.steps, §budget.patience, §budget.tokens or §budget.seconds."
        raise ConfigError(why, setting="budget.steps")
    names = expand(config.task.name)
    if len(names) > 1:
        raise ConfigError(
            f"'{config.task.name}' is a group of {len(names)} tasks; name one of them.",
            setting="task.name",
            value=config.task.name,
        )
    extractor(load_task(config.task), config.task.extractor)
    method_config = parse(method.config_type, config.method_config, "method_config")
    if isinstance(method, ResolvesConfig):
        method_config = method.resolve(method_config, names[0])
    _check_models(config)
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


def _check_models(config: TrialConfig) -> None:
    """Tell before anything is loaded or contacted which settings do not apply to a model.

    Raises:
        ConfigError: one does not.
    """
    from greater_ray.models.endpoint import check_model

    check_model(config.model)
    if config.optimizer_model is not None:
        try:
            check_model(config.optimizer_model)
        except ConfigError as error:
            raise error.renamed("model", "optimizer_model") from None


def check_method(config: TrialConfig) -> None:
    """Tell before anything is loaded or contacted that a method needs what no endpoint can do.

    Raises:
        ConfigError: it does.
    """
    from greater_ray.models.endpoint import EndpointEngine, is_endpoint

    if is_endpoint(config.model.name):
        _refuse_missing(config, *load_method(config), EndpointEngine.all_kinds())


def _refuse_missing(
    config: TrialConfig, method: Method[Any, Any], method_config: Any, kinds: frozenset[type[Work[Any]]]
) -> None:
    needs = method.needs(method_config) if isinstance(method, NeedsWork) else {}
    for kind, hint in needs.items():
        if kind not in kinds:
            instead = hint or "choose a method that goes by answers, for instance gepa, gpo or few-shot"
            why = f"'{config.method}' needs {kind.title()}, which '{config.model.name}' cannot give; {instead}."
            raise ConfigError(why, setting="method", value=config.method)


# -- parts of a trial --------------------------------------------------------------------------------------------------


class Subject(NamedTuple):
    """What prompts are measured on: rows and a model, with facts about the model and what computes it.

    ``rendered`` are the turns as the model's chat template writes them, where it tells (``RenderedTurns``).
    """

    task: Task
    model: ShardedModel
    facts: dict[str, Any]
    hardware: str
    kinds: frozenset[type[Work[Any]]] | None = None
    rendered: str | None = None


def load_subject(config: TrialConfig, models: Models | None = None, task: Task | None = None) -> Subject:
    """Load rows first (unless ``task`` holds them), then the model: a mistake in the data shows before the long part.

    Raises:
        DataError: rows are missing or broken.
        ModelError: the model cannot be found or loaded, or cannot have this layout.
    """
    from greater_ray.tasks import extractor, load_task

    task = load_task(config.task) if task is None else task
    task.train(), task.dev()
    served = (models or local_models())(config.model)
    layout = config.make_layout(*extractor(task, config.task.extractor))
    model = ShardedModel(served.executor, layout, served.shard_size or config.shard_size)
    # A layout that this model cannot have is told before anything is written.
    model.ask(EncodePrompt(" "))
    return Subject(task, model, served.facts, served.hardware, served.kinds, _rendered(model))


def _rendered(model: ShardedModel) -> str | None:
    """Return the turns as the chat template writes them; a model behind an endpoint, or of one's own, need not tell."""
    try:
        return model.ask(RenderedTurns())
    except UnsupportedError:
        return None


@dataclass(frozen=True)
class Parts:
    """All that the names in a config stand for.

    ``inputs`` are hashes of what a config only names: rows, turns as they are rendered, and the weights of model and
    writer, as far as told.
    ``writer_facts`` are None where the task model writes.
    """

    config: TrialConfig
    task: Task
    model: ShardedModel
    facts: dict[str, Any]
    hardware: str
    method: Method[Any, Any]
    method_config: Any
    writer: ShardedWriter
    writer_facts: dict[str, Any] | None
    inputs: dict[str, str]
    rendered: str | None = None


def assemble(config: TrialConfig, models: Models | None = None, task: Task | None = None) -> Parts:
    """Load what a config names; ``models`` says where its models run, ``task`` is the config's where it is at hand.

    Raises:
        GreaterRayError: as ``load_subject``; also where an option of the method is wrong or the writer cannot be used.
    """
    models = models or local_models()
    check_method(config)
    method, method_config = load_method(config)
    subject = load_subject(config, models, task)
    task, facts = subject.task, subject.facts
    if subject.kinds is not None:
        _refuse_missing(config, method, method_config, subject.kinds)
    writer = _serve_writer(config, models)
    named = {"weights": facts.get("weights")}
    if subject.rendered is not None:
        named["turns"] = fingerprint(subject.rendered)
    if config.optimizer_model is not None:
        named["optimizer_weights"] = writer.facts.get("weights")
    return Parts(
        config=config,
        task=task,
        model=subject.model,
        facts=facts,
        hardware=subject.hardware,
        rendered=subject.rendered,
        method=method,
        method_config=method_config,
        writer=ShardedWriter(writer.executor, "model" if config.optimizer_model is None else "optimizer_model"),
        writer_facts=writer.facts if config.optimizer_model is not None else None,
        inputs={**row_hash(task), **{name: value for name, value in named.items() if value is not None}},
    )


def load_method(config: TrialConfig) -> tuple[Method[Any, Any], Any]:
    """Return the method that a config names, and its options."""
    method: Method[Any, Any] = load("methods", config.method)
    return method, parse(method.config_type, config.method_config, "method_config")


def row_hash(task: Task) -> dict[str, str]:
    """Return the hash of a task's rows under its name, if the task tells one."""
    rows = task.provenance.get("rows_sha256")
    return {} if rows is None else {"rows": rows}


def _serve_writer(config: TrialConfig, models: Models) -> Served:
    """Return the model that writes; an error names the setting that it comes from."""
    if config.optimizer_model is None:
        return models(config.model)
    try:
        return models(config.optimizer_model)
    except (ConfigError, ModelError) as error:
        raise error.renamed("model", "optimizer_model") from None
