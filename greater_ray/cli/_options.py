"""The options of the command line: one table, from which signatures, help and settings are made.

Settings come in layers, later ones win: the model's profile and the preset (``resolve_config``), the ``--config``
file, the options, and ``--set``.
"""

import inspect
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from greater_ray.cli._completion import COMPLETIONS, complete_cell, complete_set
from greater_ray.cli._errors import Complaint, Written, sentence, spelled_out, written_keys
from greater_ray.errors import ConfigError, GreaterRayError
from greater_ray.plugins import outside

# Cells of a grid, by any command that takes a prompt out of a folder.
CellOption = Annotated[
    list[str] | None,
    typer.Option(
        "--cell",
        metavar="AXIS=PATTERN,...",
        help="Cell of a grid, for instance method=greater,seed=1.",
        show_default=False,
        autocompletion=complete_cell,
    ),
]


class Setting(NamedTuple):
    """One option that stands for one key of the trial's config."""

    option: str
    key: str
    type: type[Any]
    metavar: str
    help: str
    panel: str


_MODEL, _TASK, _METHOD, _BUDGET, _MORE = "Model", "Task and data", "Method", "Budget", "More"

SETTINGS = (
    Setting("--model", "model.name", str, "NAME", "Built-in name, folder, GGUF file or hub id (org/name).", _MODEL),
    Setting("--revision", "model.revision", str, "REV", "Branch, tag or commit of a hub model.", _MODEL),
    Setting("--dtype", "model.dtype", str, "TYPE", "auto, float32, bfloat16, float16 or float64.", _MODEL),
    Setting("--device", "model.device", str, "DEVICE", "auto, cpu, cuda, cuda:1, several as cuda:0,cuda:1", _MODEL),
    Setting("--attn-implementation", "model.attn_implementation", str, "NAME", "sdpa or eager.", _MODEL),
    Setting("--threads", "model.threads", int, "N", "Threads of the CPU to use.", _MODEL),
    Setting("--task", "task.name", str, "NAME", "See `greater-ray list tasks`; not needed with --rows.", _TASK),
    Setting("--data", "task.data", str, "SOURCE", "hub (default), synthetic, or a folder with official files.", _TASK),
    Setting(
        "--rows", "task.rows", str, "FILE",
        "Own questions and answers: JSONL, CSV, TSV, Parquet, Inspect log, lm-eval samples, hub:ORG/NAME.", _TASK,
    ),
    Setting("--dev-rows", "task.dev_rows", str, "FILE", "Own rows for dev, where --rows has those for train.", _TASK),
    Setting("--test-rows", "task.test_rows", str, "FILE", "Own rows for test, likewise.", _TASK),
    Setting(
        "--rows-split", "task.rows_split", str, "NAME", "The one split to take of a hub data set (all).", _TASK
    ),
    Setting("--rows-revision", "task.rows_revision", str, "REV", "Commit, tag or branch of a hub data set.", _TASK),
    Setting("--question-column", "task.question_column", str, "NAME", "Column of the questions (question).", _TASK),
    Setting(
        "--question-template", "task.question_template", str, "TEXT",
        "Question from several columns, each in braces; or jinja2.", _TASK,
    ),
    Setting("--id-column", "task.id_column", str, "NAME", "Column of the rows' ids (their numbers).", _TASK),
    Setting("--split-column", "task.split_column", str, "NAME", "Column that says train, dev or test.", _TASK),
    Setting("--answer-column", "task.answer_column", str, "NAME", "Column of the answers (answer).", _TASK),
    Setting(
        "--choices-column", "task.choices_column", str, "NAME",
        "Column with a list of options, or several columns: A,B,C,D. They are shown as (A), (B), ...", _TASK,
    ),
    Setting(
        "--answer-type", "task.answer_type", str, "TYPE",
        "letter, boolean, yes-no, valid-invalid, choice, number or text; inferred where it is clear.", _TASK,
    ),
    Setting("--choices", "task.choices", str, "A,B,...", "Labels of a closed set, for answers of type choice.", _TASK),
    Setting(
        "--metric", "task.metric", str, "NAME",
        "Score of a text: exact, contains, regex, f1, rouge-l, chrf, bleu, json, or package.module:function.",
        _TASK,
    ),
    Setting("--tolerance", "task.tolerance", float, "X", "How far a number may be off, relative above 1 (0).", _TASK),
    Setting(
        "--reading", "task.reading", str, "HOW",
        "generated (default), or likelihood: the likeliest choice is the answer.", _TASK,
    ),
    Setting("--train-size", "task.train_size", int, "N", "Rows to learn from.", _TASK),
    Setting("--dev-size", "task.dev_size", int, "N", "Rows to choose among finished prompts.", _TASK),
    Setting("--test-size", "task.test_size", int, "N", "Rows for the final evaluation.", _TASK),
    Setting(
        "--extractor", "task.extractor", str, "VARIANT",
        "plain, dollar, dollar-gemma, or a text of your own that holds a blank.", _TASK,
    ),
    Setting("--method", "method", str, "NAME", "See `greater-ray list methods`.", _METHOD),
    Setting("--preset", "preset", str, "NAME", "paper (default), or another preset of the method.", _METHOD),
    Setting(
        "--optimizer-model", "optimizer_model.name", str, "NAME",
        "Model that writes prompts, for methods that ask for text (the task model); openai/NAME is an endpoint.",
        _METHOD,
    ),
    Setting("--seed", "seed", int, "S", "Seed of everything that is drawn (0).", _METHOD),
    Setting(
        "--placement", "layout.placement", str, "WHERE",
        "Where the prompt stands: after the question (default), before, system, or a form of the user's turn.",
        _METHOD,
    ),
    Setting("--system", "layout.system", str, "TEXT", "A fixed system message.", _METHOD),
    Setting(
        "--thinking", "layout.thinking", bool, "", "Whether a model thinks whose chat template can switch it.", _METHOD
    ),
    Setting(
        "--max-reasoning-tokens", "decoding.max_reasoning_tokens", int, "N", "How long the model may reason.", _METHOD
    ),
    Setting("--shard-size", "shard_size", int, "N", "Rows per unit of work; may change the last bits.", _METHOD),
    Setting("--steps", "budget.steps", int, "N", "Stop after so many steps.", _BUDGET),
    Setting("--patience", "budget.patience", int, "N", "Stop after so many steps without a better prompt.", _BUDGET),
    Setting("--max-tokens", "budget.tokens", int, "N", "Stop after so many tokens of the task model.", _BUDGET),
    Setting("--max-calls", "budget.calls", int, "N", "Stop after so many rows given to the task model.", _BUDGET),
    Setting(
        "--max-generated-tokens", "budget.generated_tokens", int, "N",
        "Stop after so many tokens written by the task model.", _BUDGET,
    ),
    Setting(
        "--max-optimizer-calls", "budget.optimizer_calls", int, "N",
        "Stop after so many texts asked of the optimizer model.", _BUDGET,
    ),
    Setting(
        "--max-optimizer-tokens", "budget.optimizer_tokens", int, "N",
        "Stop after so many tokens read and written by the optimizer model.", _BUDGET,
    ),
    Setting("--max-seconds", "budget.seconds", float, "SECONDS", "Stop after so long.", _BUDGET),
    Setting(
        "--dev-select-top", "evaluation.dev_select_top", int, "N",
        "Choose among the N best prompts by accuracy on dev rows.", _BUDGET,
    ),
)  # fmt: skip
# The option of every key that has one.
OPTIONS = {setting.key: setting.option for setting in SETTINGS}
# What has no effect where nothing is optimized.
ONLY_FOR_OPTIMIZE = (
    "--seed",
    "--optimizer-model",
    *(setting.option for setting in SETTINGS if setting.panel == _BUDGET),
)

_FURTHER: dict[str, tuple[Any, Any]] = {
    "config": (Path | None, typer.Option("--config", metavar="FILE", help="YAML file of settings.")),
    "assignments": (
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Any setting, for instance method.top_k=20; wins over all.",
            autocompletion=complete_set,
        ),
    ),
    "json": (bool, typer.Option("--json", help="Print the result as JSON, and nothing else, to standard output.")),
    "no_color": (bool, typer.Option("--no-color", help="No colors (also: NO_COLOR=1).")),
    "debug": (bool, typer.Option("--debug", help="Show the traceback of an error.")),
}
_DEFAULTS = {"json": False, "no_color": False, "debug": False}


class Given(NamedTuple):
    """What stands on the command line: settings by option, and the rest by name."""

    settings: dict[str, Any]
    config: Path | None
    assignments: list[str]
    json: bool
    no_color: bool
    debug: bool
    written: Written

    def say(self, error: GreaterRayError) -> str:
        """Say an error in the words of this command line."""
        return sentence(error, self.written)


def with_options(
    without: Iterable[str] = (), *, settings: bool = True
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of the table, and those that every command has; it gets them as ``given``.

    The command's own parameters stay in front. With ``settings=False`` only --json, --no-color and --debug are added.
    """
    table = [s for s in SETTINGS if s.option not in set(without)] if settings else []
    further = _FURTHER if settings else {name: _FURTHER[name] for name in ("json", "no_color", "debug")}

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = [p for p in inspect.signature(command).parameters.values() if p.name != "given"]
        names = {_parameter_name(s.option): s for s in table}

        def wrapper(**values: Any) -> None:
            found = {setting.option: values.pop(name) for name, setting in names.items()}
            file = values.pop("config", None) if settings else None
            assignments = (values.pop("assignments", None) or []) if settings else []
            written = Written(
                file=file,
                options=frozenset(option for option, value in found.items() if value is not None),
                names=OPTIONS if settings else {},
                assignments=written_keys(assignments),
            )
            given = Given(
                settings=found,
                config=file,
                assignments=assignments,
                json=values.pop("json"),
                no_color=values.pop("no_color"),
                debug=values.pop("debug"),
                written=written,
            )
            try:
                command(**values, given=given)
            except GreaterRayError as error:
                raise Complaint(error, given.written) from error

        added = {name: (s.type | None, _option(s)) for name, s in names.items()} | {
            name: (kind, _paneled(info)) for name, (kind, info) in further.items()
        }
        parameters = own + [
            inspect.Parameter(
                name, inspect.Parameter.KEYWORD_ONLY, default=_DEFAULTS.get(name), annotation=Annotated[kind, info]
            )
            for name, (kind, info) in added.items()
        ]
        signature = inspect.Signature([p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in parameters])
        wrapper.__signature__ = signature  # type: ignore[attr-defined]
        wrapper.__annotations__ = {p.name: p.annotation for p in signature.parameters.values()}
        wrapper.__doc__, wrapper.__name__ = command.__doc__, command.__name__
        return wrapper

    return decorate


def _parameter_name(option: str) -> str:
    return option.removeprefix("--").replace("-", "_")


def _option(setting: Setting) -> Any:
    names = f"{setting.option}/--no-{setting.option[2:]}" if setting.type is bool else setting.option
    return typer.Option(
        names,
        metavar=setting.metavar,
        help=setting.help,
        rich_help_panel=setting.panel,
        show_default=False,
        autocompletion=COMPLETIONS.get(setting.option),
    )


def _paneled(info: Any) -> Any:
    info.rich_help_panel, info.show_default = _MORE, False
    return info


def collect(given: Given, base: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Merge all layers of settings; ``base`` lies below them.

    Raises:
        ConfigError: the ``--config`` file or a ``--set`` assignment is unusable.
    """
    from greater_ray.settings import merged, parse_assignments, read_yaml

    from_file = read_yaml(given.config) if given.config is not None else {}
    if given.config is not None:
        tell_code(given.config, from_file)
    options: dict[str, Any] = {}
    for setting in SETTINGS:
        value = given.settings.get(setting.option)
        if value is not None:
            options = merged(options, _nested(setting.key, value))
    assignments = [spelled_out(text) for text in given.assignments]
    layers = [dict(base or {}), from_file, options, parse_assignments(assignments)]
    settings = merged(*map(_long_form, layers))
    task = settings.get("task")
    if (
        isinstance(task, dict)
        and any(task.get(key) for key in ("rows", "dev_rows", "test_rows"))
        and not task.get("name")
    ):
        task["name"] = "rows"
    for key in ("model.name", "optimizer_model.name", "task.name", "method", "preset"):
        value = _at(settings, key)
        if value is not None and not isinstance(value, str):
            raise ConfigError(f"must be a name, not {value!r}.", setting=key, value=value)
    return settings


def tell_code(file: Path, values: Mapping[str, Any]) -> None:
    """Say which code of other packages a file of settings names, before any of it is imported."""
    if names := outside(values):
        sys.stderr.write(f"'{file}' names code outside this package, which runs with your rights: {', '.join(names)}\n")
        sys.stderr.flush()


def _nested(key: str, value: Any) -> dict[str, Any]:
    for part in reversed(key.split(".")):
        value = {part: value}
    return dict(value)


def _long_form(layer: dict[str, Any]) -> dict[str, Any]:
    """Write ``model: name`` as ``model: {name: name}``, so that layers merge."""
    keys = ("model", "task", "optimizer_model")
    named = {key: {"name": layer[key]} for key in keys if isinstance(layer.get(key), str)}
    return {**layer, **named}


def _at(settings: Any, key: str) -> Any:
    for part in key.split("."):
        settings = settings.get(part) if isinstance(settings, Mapping) else None
    return settings


def read_prompt(prompt: str | None, file: Path | None) -> str:
    """Return the prompt's text from the option or the file.

    Raises:
        ConfigError: neither or both are given, the file cannot be read, or there is no text.
    """
    if (prompt is None) == (file is None):
        why = "give exactly one of --prompt TEXT, --prompt-file FILE and --run FOLDER."
        raise ConfigError(why, setting="prompt", value=prompt)
    option, text = "prompt", prompt or ""
    if file is not None:
        option = "prompt_file"
        try:
            text = file.read_text(encoding="utf-8").rstrip("\r\n")
        except OSError as error:
            raise ConfigError(f"'{file}' cannot be read ({error.strerror}).", setting=option, value=file) from error
        except UnicodeDecodeError as error:
            raise ConfigError(f"'{file}' is not UTF-8 text.", setting=option, value=file) from error
    if re.search("[\ud800-\udfff]", text):
        raise ConfigError("the prompt is not UTF-8 text.", setting=option, value=text)
    if not text.strip():
        raise ConfigError(f"{text!r} has no tokens; give at least one word.", setting=option, value=text)
    return text
