"""BIG-Bench Hard: 27 tasks of 250 rows (three have fewer), 21 of which the paper reports (App. A.1)."""

from collections import Counter
from functools import partial
from typing import Any

from greater_ray.config import TaskConfig
from greater_ray.errors import ConfigError
from greater_ray.protocols import Task
from greater_ray.tasks._forms import AnswerForm, letter_form
from greater_ray.tasks._given import GPO_RULE, given, gpo_row, read_gpo, refuse_gpo_without_files
from greater_ray.tasks._sources import Source, check_data_option, find_file, read_bbh_json, read_hub
from greater_ray.tasks._splits import SPLITS, first_of_each, gpo_sizes, grouped, positional
from greater_ray.tasks._synthetic import GENERATORS, synthetic_source
from greater_ray.tasks._task import Family, Loaded, RowTask, TaskInfo, digest, refuse_other_type
from greater_ray.types import Example

# lm-eval's copy of the official files; the older "lukaemon/bbh" needs a loading script, which datasets >= 4 refuses.
HUB_ID = "SaylorTwift/bbh"

BOOLEAN = AnswerForm("boolean", ("True", "False"))
YES_NO = AnswerForm("yes-no", ("Yes", "No"))
SMALL_YES_NO = AnswerForm("yes-no", ("yes", "no"))
VALIDITY = AnswerForm("valid-invalid", ("valid", "invalid"))
TEXT = AnswerForm("text")

# Letters reach to the last one that is a label anywhere in the official files.
_FORMS: dict[str, tuple[AnswerForm, str]] = {
    "boolean_expressions": (BOOLEAN, "truth value of an expression"),
    "causal_judgement": (YES_NO, "would people call it a cause"),
    "date_understanding": (letter_form(6), "a date inferred from a story"),
    "disambiguation_qa": (letter_form(3), "whom a pronoun means"),
    "dyck_languages": (TEXT, "close the brackets"),
    "formal_fallacies": (VALIDITY, "is an argument deductively valid"),
    "geometric_shapes": (letter_form(11), "shape of an SVG path"),
    "hyperbaton": (letter_form(2), "which adjective order is right"),
    "logical_deduction_five_objects": (letter_form(5), "order five objects from clues"),
    "logical_deduction_seven_objects": (letter_form(7), "order seven objects from clues"),
    "logical_deduction_three_objects": (letter_form(3), "order three objects from clues"),
    "movie_recommendation": (letter_form(5), "which film is like the others"),
    "multistep_arithmetic_two": (AnswerForm("number", number="signed"), "nested integer arithmetic"),
    "navigate": (YES_NO, "do the steps lead back to the start"),
    "object_counting": (AnswerForm("number", number="positive"), "count the things of a kind"),
    "penguins_in_a_table": (letter_form(5), "questions on a small table"),
    "reasoning_about_colored_objects": (letter_form(18), "colors of things on a surface"),
    "ruin_names": (letter_form(4), "the funny edit of a name"),
    "salient_translation_error_detection": (letter_form(6), "kind of a translation error"),
    "snarks": (letter_form(2), "which statement is sarcastic"),
    "sports_understanding": (SMALL_YES_NO, "is a sentence about sports plausible"),
    "temporal_sequences": (letter_form(4), "when somebody had the time"),
    "tracking_shuffled_objects_five_objects": (letter_form(5), "follow five swapped objects"),
    "tracking_shuffled_objects_seven_objects": (letter_form(7), "follow seven swapped objects"),
    "tracking_shuffled_objects_three_objects": (letter_form(3), "follow three swapped objects"),
    "web_of_lies": (YES_NO, "who tells the truth"),
    "word_sorting": (TEXT, "sort words alphabetically"),
}
# Paper App. A.1: answers of word_sorting and dyck_languages are hard to score, the variants are near duplicates.
_NOT_IN_THE_PAPER = {
    "dyck_languages",
    "word_sorting",
    "logical_deduction_three_objects",
    "logical_deduction_seven_objects",
    "tracking_shuffled_objects_three_objects",
    "tracking_shuffled_objects_seven_objects",
}


def load(name: str, config: TaskConfig) -> Task:
    """Build a BBH task from the hub, a folder with the official files, or a generator of the same form.

    Raises:
        ConfigError: ``task.data`` is unusable, the task has no generator, or a setting does not apply.
    """
    subtask = name.removeprefix("bbh/")
    form, _ = _FORMS[subtask]
    refuse_other_type(name, config, form, ("gpo", "gpo-sizes"))
    check_data_option(config.data)
    refuse_gpo_without_files(name, config, "§task.split gpo-sizes takes as many rows by position.")
    if config.data == "synthetic" and subtask not in GENERATORS:
        names = ", ".join(f"bbh/{known}" for known in sorted(GENERATORS))
        raise ConfigError(
            f"'{name}' has no synthetic rows; tasks that have: {names}.", setting="task.data", value="synthetic"
        )
    title = f"{name} (synthetic)" if config.data == "synthetic" else name
    if config.split == "gpo":
        return RowTask(name, form, partial(_load_gpo_rows, subtask, form, config))
    return RowTask(name, form, partial(_load_rows, subtask, config), title)


def _source(subtask: str, config: TaskConfig) -> Source:
    if config.data == "synthetic":
        return synthetic_source(subtask, config.seed)
    if config.data == "hub":
        return read_hub(HUB_ID, "test", subtask)
    return read_bbh_json(find_file(config.data, [f"bbh/{subtask}.json", f"{subtask}.json"], f"bbh/{subtask}"))


def _load_gpo_rows(subtask: str, form: AnswerForm, config: TaskConfig) -> Loaded:
    name = f"bbh/{subtask}"
    sources = read_gpo(config.data, [name, f"BBH/{subtask}", subtask], name)
    return given(name, config, sources, gpo_row(name, form), GPO_RULE, f"a question and an answer ({form.type})")


def _load_rows(subtask: str, config: TaskConfig) -> Loaded:
    form, _ = _FORMS[subtask]
    source = _source(subtask, config)
    prefix = "synthetic" if config.data == "synthetic" else "bbh"
    examples: dict[int, Example] = {}
    dropped: list[dict[str, str]] = []
    for row in source.rows:
        row_id, target = f"{prefix}/{subtask}#{row.index}", str(row.values["target"])
        label = form.label(target)
        if label is None:
            dropped.append({"id": row_id, "reason": f"broken options: the label {target!r} is not a {form.type}"})
        else:
            examples[row.index] = Example(row_id, str(row.values["input"]), target, label)
    rule_of = positional if config.split is None else gpo_sizes
    ranges, rule = rule_of(len(source.rows), f"bbh/{subtask}")
    rows = {split: [examples[i] for i in ranges[split] if i in examples] for split in SPLITS}
    chosen = first_of_each(rows, config, f"bbh/{subtask}")
    kept = list(examples.values())
    provenance: dict[str, Any] = {
        **source.origin,
        "split_rule": f"{rule}, by position in the source; a row that is left out moves no other",
        "rows_sha256": digest(kept),
        "dropped": dropped,
        "duplicates": _duplicates(kept),
        "labels": dict(Counter(example.label for example in kept)) if form.choices else {},
    }
    return Loaded(chosen["train"], chosen["dev"], chosen["test"], provenance)


def _duplicates(examples: list[Example]) -> list[list[str]]:
    """Ids of rows with equal questions. The official files have a few; they stay, so that splits stay comparable."""
    groups = grouped([example.question for example in examples])
    return [[examples[i].id for i in group] for group in groups if len(group) > 1]


def _groups_of(subtask: str) -> tuple[str, ...]:
    paper = () if subtask in _NOT_IN_THE_PAPER else ("bbh-paper",)
    return ("bbh", *paper, "bbh_cot_zeroshot")


def _family() -> Family:
    names = {subtask: f"bbh/{subtask}" for subtask in _FORMS}
    spellings = {**{subtask: subtask for subtask in names}, "causal_judgment": "causal_judgement"}
    aliases = {
        written: names[subtask]
        for spelling, subtask in spellings.items()
        for written in (f"bbh/{spelling}", spelling, f"bbh_cot_zeroshot_{spelling}")
    }
    infos = tuple(
        TaskInfo(names[subtask], form.type, _groups_of(subtask), description, subtask in GENERATORS)
        for subtask, (form, description) in _FORMS.items()
    )
    groups = {
        group: tuple(info.name for info in infos if group in info.groups)
        for group in ("bbh", "bbh-paper", "bbh_cot_zeroshot")
    }
    return Family(infos, load, groups, aliases)


PLUGIN = _family()
