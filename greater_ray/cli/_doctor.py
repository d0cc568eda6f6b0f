"""A checklist before a long run: are this model, these rows and these settings measured correctly?"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from greater_ray.config import TrialConfig, parse
from greater_ray.errors import ConfigError, GreaterRayError
from greater_ray.evaluation import read_answer
from greater_ray.models.endpoint import is_endpoint
from greater_ray.plugins import load
from greater_ray.problem import moved, not_run
from greater_ray.protocols import Problem, Task, reads_likeliest
from greater_ray.sharding import LocalExecutor, ShardedModel
from greater_ray.types import Example, Layout, LossSpec, TokenIds
from greater_ray.work import Answers, CheckPrompts, Gradients, Rollouts

if TYPE_CHECKING:
    from greater_ray.models.engine import Engine

# Sizes that suffice: an error of the cache, of a mask or of the gradient shows on any row and after a few tokens.
CHECK_ROWS = 2
CHECK_REASONING = 32
# Where half precision chooses another token is chance; how often it does shows on a few rows.
HALF_ROWS = 6
# How well a model follows an extractor shows on a dozen rows; reasoning that is cut off is extracted all the same.
EXTRACTOR_ROWS = 12
EXTRACTOR_REASONING = 96
# Below this much difference in the share of right or readable answers, so few rows say nothing.
MISMATCH = 0.25
# Largest accepted error, relative to the gradient's length or the loss: (fine, usable).
TOLERANCE = {"float64": (1e-3, 1e-2), "float32": (1e-3, 1e-2), "bfloat16": (0.1, 0.5), "float16": (0.03, 0.2)}

Status = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Check:
    """One line of the checklist, with the figures behind it."""

    name: str
    status: Status
    message: str
    figures: dict[str, Any] = field(default_factory=dict)
    error: GreaterRayError | None = None

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object."""
        return {name: value for name, value in vars(self).items() if name != "error"}


@dataclass(frozen=True)
class _Patient:
    """All that the checks look at."""

    config: TrialConfig
    task: Task
    model: ShardedModel
    engine: "Engine"
    prompt: TokenIds
    loss: LossSpec

    @property
    def few(self) -> tuple[Example, ...]:
        return tuple(self.task.train()[:CHECK_ROWS])

    @property
    def layout(self) -> Layout:
        assert self.model.layout is not None, "what is measured on rows has one"
        return self.model.layout

    @property
    def short_layout(self) -> Layout:
        return shortened(self.layout, CHECK_REASONING)


def shortened(layout: Layout, most: int) -> Layout:
    """Return the layout with at most so many tokens of reasoning."""
    return replace(layout, max_reasoning_tokens=min(most, layout.max_reasoning_tokens))


def examine(config: TrialConfig, on_check: Callable[[Check], None], progress: Callable[[str], None]) -> list[Check]:
    """Run all checks, handing over each as soon as it is done; what cannot be loaded fails and ends them.

    Raises:
        ConfigError: a setting is wrong, so nothing could be checked.
    """
    if is_endpoint(config.model.name):
        why = f"'{config.model.name}' is an endpoint, and doctor looks into a model that is loaded here; give a folder."
        raise ConfigError(why, setting="model.name", value=config.model.name)
    checks: list[Check] = []

    def add(check: Check) -> None:
        checks.append(check)
        on_check(check)

    patient = _load(config, add, progress)
    if patient is not None:
        for name, what, check in (
            ("bos", "one row", _bos),
            ("stop", "the end of a turn", _stop),
            ("losses", f"{CHECK_ROWS} rows, {CHECK_REASONING} tokens of reasoning", _losses),
            ("gradient", "one row, central differences", _gradient),
            ("half", f"{HALF_ROWS} rows, {CHECK_REASONING} tokens of reasoning", _half),
            ("extractor", f"{EXTRACTOR_ROWS} rows, {EXTRACTOR_REASONING} tokens of reasoning", _extractor),
            ("memory", "an estimate", _memory),
        ):
            if name == "half" and (_quantized(patient) or patient.engine.facts["dtype"] not in ("bfloat16", "float16")):
                continue
            progress(f"checking {name} ({what})")
            try:
                add(check(patient))
            except GreaterRayError as error:
                add(Check(name, "fail", str(error), error=error))
    return checks


def _load(config: TrialConfig, add: Callable[[Check], None], progress: Callable[[str], None]) -> _Patient | None:
    """Load rows, model files and prompt, one check each; None when one fails."""
    from greater_ray.assembly import load_subject, local_models
    from greater_ray.models import sources
    from greater_ray.tasks import load_task

    name = "rows"
    try:
        progress("loading rows")
        counts = load_task(config.task).provenance
        add(Check("rows", "ok", _counts(counts), {"counts": counts.get("counts", {})}))
        name = "model"
        progress(f"loading {config.model.name}")
        source = sources.resolve(config.model, progress)
        sources.verify(source)
        subject = load_subject(config, local_models(progress))
        task, model, facts = subject.task, subject.model, subject.facts
        hashed = "files match their hashes" if source.sha256 else f"{source.kind}, without hashes to compare with"
        millions = facts["parameters"] / 1e6
        shown = f"{millions:.0f}" if millions >= 10 else f"{millions:.2g}"
        text = f"{facts['architecture']}, {shown} million parameters, {facts['dtype']} on {facts['device']}; {hashed}"
        add(Check("model", "ok", text, facts))
        if (note := moved(config, facts)) is not None:
            add(Check("layout", "warn", note, {"placement": config.layout.placement}))
        if (note := not_run(config, facts)) is not None:
            add(Check("code", "warn", note, {}))
        name = "prompt"
        method = load("methods", config.method)
        method_config = parse(method.config_type, config.method_config, "method_config")
        prompt = method.start(Problem(tuple(task.train()), model, config.seed), method_config).prompt_ids
        check = model.ask(CheckPrompts([prompt]))[0]
        text = f"the initial prompt has {len(prompt)} tokens"
        same = "which survive decoding and tokenizing again" if check.survives else "which tokenize differently as text"
        add(Check("prompt", "ok" if check.survives else "warn", f"{text}, {same}", {"tokens": len(prompt)}))
    except ConfigError:
        raise
    except GreaterRayError as error:
        add(Check(name, "fail", str(error), error=error))
        return None
    from greater_ray.models.engine import Engine

    loss = getattr(method_config, "loss", None)
    # ``local_models`` loads into this process, and ``resolve`` finds no model of one's own.
    assert isinstance(model.executor, LocalExecutor)
    engine = model.executor.engine
    assert isinstance(engine, Engine)
    return _Patient(config, task, model, engine, prompt, loss if isinstance(loss, LossSpec) else LossSpec())


def _counts(provenance: dict[str, Any]) -> str:
    counts = provenance.get("counts", {})
    sizes = ", ".join(f"{split} {count}" for split, count in counts.items())
    labels = provenance.get("labels") or {}
    shares = f"; labels: {', '.join(f'{label} {n}' for label, n in sorted(labels.items()))}" if labels else ""
    return f"{provenance.get('task')}: {sizes}{shares}"


def _quantized(patient: _Patient) -> bool:
    """Tell whether weights have fewer bits: transformers makes no copy in other numbers, and kernels may round more."""
    return "quantization" in patient.engine.facts


def _graded(error: float, dtype: str) -> Status:
    fine, usable = TOLERANCE.get(dtype, TOLERANCE["float32"])
    return "ok" if error <= fine else "warn" if error <= usable else "fail"


def _bos(patient: _Patient) -> Check:
    from greater_ray.models.checks import check_bos

    found, expected = check_bos(patient.engine, patient.layout, patient.few[0])
    status: Status = "ok" if found == expected else "fail"
    message = f"sequences begin with {found} BOS token{'' if found == 1 else 's'}, {expected} expected"
    return Check("bos", status, message, {"found": found, "expected": expected})


def _stop(patient: _Patient) -> Check:
    from greater_ray.models.checks import check_stop

    end, stops = check_stop(patient.engine)
    if end is None:
        return Check("stop", "ok", "the chat template writes no mark at the end of a turn")
    if stops:
        return Check("stop", "ok", f"generation stops at {end!r}, which ends a turn", {"end": end})
    why = f"the chat template ends a turn with {end!r}, but generation does not stop there: all replies run into their "
    return Check("stop", "warn", why + "limit; set eos_token_id in the model's generation_config.json", {"end": end})


def _losses(patient: _Patient) -> Check:
    from greater_ray.models.checks import check_losses

    result = check_losses(patient.engine, patient.short_layout, patient.few, patient.prompt)
    worst = max(result.label, result.prompt)
    dtype = "bfloat16" if _quantized(patient) else patient.engine.facts["dtype"]
    status = _graded(worst / max(1.0, result.scale), dtype)
    message = f"cached, batched losses differ from plain ones by at most {worst:.1e} (losses up to {result.scale:.3g})"
    return Check("losses", status, message, result._asdict())


def _gradient(patient: _Patient) -> Check:
    from greater_ray.models.checks import available_memory, check_gradient

    engine, quantized = patient.engine, _quantized(patient)
    if Gradients not in engine.kinds:
        why = "a layer has no backward pass, so methods that need gradients are refused; all others run"
        return Check("gradient", "warn", why)
    precise = not quantized and engine.facts["parameters"] * 10 < available_memory(*engine.devices)
    row, layout = patient.few[:1], patient.short_layout
    result = check_gradient(engine, layout, row, patient.prompt, patient.loss, precise=precise, directions=1)
    dtype = "bfloat16" if quantized else engine.facts["dtype"]
    coarsest = max(dtype, result.dtype, key=lambda name: TOLERANCE.get(name, (0.0, 0.0)))
    status = _graded(result.error, coarsest)
    message = (
        f"differs from central differences ({result.dtype}) by {result.error:.1e} of its length {result.length:.3g} "
        f"along {len(result.numeric)} directions"
    )
    return Check("gradient", status, message, result._asdict())


def _half(patient: _Patient) -> Check:
    """Say what half precision changes on these rows; it is the user's choice, so only broken numbers are a warning."""
    from greater_ray.models.checks import available_memory
    from greater_ray.models.half import check_half

    engine, dtype = patient.engine, patient.engine.facts["dtype"]
    if engine.facts["parameters"] * 6 > available_memory(*engine.devices):
        why = f"what {dtype} changes is not known: a copy in float32 beside the model does not fit into memory"
        return Check("half", "ok", why)
    shard = tuple(patient.task.train()[:HALF_ROWS])
    result = check_half(engine, patient.short_layout, shard, patient.prompt)
    message = (
        f"in {dtype}, {100 * result.tokens:.0f} % of greedy tokens come before the first that is another one than in "
        f"float32 ({result.equal_rows} of {result.rows} rows are equal), and losses of equal text differ by at most "
        f"{result.loss:.1e} (losses up to {result.scale:.3g})"
    )
    return Check("half", _graded(result.loss / max(1.0, result.scale), dtype), message, result._asdict())


def _extractor(patient: _Patient) -> Check:
    """Read the same reasoning out with every extractor, and look for one that this model follows far better."""
    from greater_ray.tasks import extractor, extractor_variants

    config, task, engine = patient.config, patient.task, patient.engine
    shard = tuple(task.train()[:EXTRACTOR_ROWS])
    chosen = config.task.extractor
    limits = shortened(patient.layout, EXTRACTOR_REASONING)
    ((rollouts,), _) = engine.rollouts(Rollouts(shard, [patient.prompt], patient.loss), limits)
    rates: dict[str, dict[str, float]] = {}
    for variant in dict.fromkeys([chosen, *extractor_variants()]):
        layout = config.make_layout(*extractor(task, variant))
        asked = Answers(shard, [patient.prompt], rollouts, score_choices=reads_likeliest(task))
        (answers,), _ = engine.answers(asked, layout)
        scores = [read_answer(task, e, a) for e, a in zip(shard, answers, strict=True)]
        rates[variant] = {
            "right": sum(s.correct for s in scores) / len(shard),
            "readable": sum(s.prediction is not None for s in scores) / len(shard),
            "hit": sum(bool(a.rollout.label_hit) for a in answers) / len(shard),
        }
    shown = ", ".join(
        f"{name if name in extractor_variants() else 'your own'} "
        f"{100 * r['right']:.0f} % right, {100 * r['readable']:.0f} % readable, {100 * r['hit']:.0f} % hit"
        for name, r in rates.items()
    )
    message = (
        f"on {len(shard)} train rows with up to {limits.max_reasoning_tokens} tokens of reasoning "
        f"(hit: the label is the likeliest text): {shown}"
    )
    best = {key: max(rates, key=lambda name: rates[name][key]) for key in ("right", "hit", "readable")}
    better = next((name for key, name in best.items() if rates[name][key] - rates[chosen][key] >= MISMATCH), None)
    if better is None:
        return Check("extractor", "ok", message, rates)
    message += f"; this model may not follow '{chosen}': try --extractor {better}"
    return Check("extractor", "warn", message, rates)


def _memory(patient: _Patient) -> Check:
    from greater_ray.models.checks import memory_estimate

    method_config = patient.config.method_config
    candidates = int(method_config.get("num_evaluated", 1)) if method_config else 1
    rows = patient.config.shard_size * max(1, candidates)
    figures = memory_estimate(patient.engine, patient.layout, patient.task.train(), patient.prompt, rows)
    needed = figures["questions"] + max(figures["decoding"], figures["backward"])
    free = figures["available"]
    message = (
        f"parameters {_size(figures['parameters'])}, questions {_size(figures['questions'])}, decoding "
        f"{figures['decode_rows']} rows of {figures['tokens_per_row']} tokens {_size(figures['decoding'])}, backward "
        f"about {_size(figures['backward'])}; free {_size(free)}"
    )
    if needed > 0.8 * free:
        message += "; batches will be halved where memory runs out, which costs time"
    return Check("memory", "ok" if needed <= 0.8 * free else "warn", message, figures)


def _size(num_bytes: int) -> str:
    """Write bytes for people."""
    value = float(num_bytes)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"
