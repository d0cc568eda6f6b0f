"""What came of it: a record in words and tables, with its uncertainty."""

from typing import TYPE_CHECKING, Any

from greater_ray.progress.screen import clock
from greater_ray.records import ComparisonRecord, EvaluationRecord, TrialRecord
from greater_ray.shown import percent, percents
from greater_ray.statistics.tables import ALPHA
from greater_ray.types import Usage

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_SPLITS = ("train", "dev", "test")


def data_title(task: dict[str, Any]) -> str:
    """Name the rows of a record; made rows are always called so."""
    name = str(task.get("task") or task.get("name"))
    return f"{name} (synthetic)" if task.get("source") == "synthetic" and "(synthetic)" not in name else name


def print_evaluation(console: "Console", record: EvaluationRecord, name: str) -> None:
    """Print one prompt's figures on one split."""
    lines = (
        f"{name}, {record.split}: {record.num_examples} rows",
        f"  {record.metric:<11} {percent(record.accuracy)}  95 % interval {percents(record.accuracy_interval)}"
        + ("  (likeliest choice)" if record.generated_accuracy is not None else ""),
        *_generated(record),
        f"  strict      {percent(record.strict_accuracy)}  (answer read from the reasoning alone)",
        *_label_loss(record),
        f"  unreadable  {percent(record.unreadable_rate)}",
        f"  truncated   {percent(record.truncated_rate)}  (reasoning cut at its limit)",
    )
    for line in lines:
        console.print(line, soft_wrap=True)


def _label_loss(record: EvaluationRecord) -> list[str]:
    if record.label_ce is None or record.label_ce_interval is None:
        return ["  label loss  not told by this model"]
    low, high = record.label_ce_interval
    return [f"  label loss  {record.label_ce:.4f}  95 % interval [{low:.4f}, {high:.4f}]"]


def print_trial(console: "Console", record: TrialRecord) -> None:
    """Print a finished trial: prompts, figures before and after, verdict, cost."""
    title = f"{record.config.method} on {data_title(record.task)} with {record.config.model.name}"
    console.print(f"\n{title}: {record.steps} steps, stopped by {record.stop_reason}", style="bold", soft_wrap=True)
    console.print(f"prompt before: {record.initial.full_text}", soft_wrap=True)
    console.print(f"prompt after:  {record.best.full_text}", soft_wrap=True)
    if shown := record.best.demonstrations:
        number = f"the {record.best.nearest} nearest of {len(shown)}" if record.best.nearest else len(shown)
        beside = "" if record.initial.demonstrations == shown else ", not under the start prompt"
        console.print(f"demonstrations in front of every question: {number}{beside}", soft_wrap=True)
    if record.chosen_by:
        losses = [f"{p.loss:.4f}" if p.loss is not None else "-" for p in (record.initial, record.best)]
        console.print(f"criterion on {record.chosen_by[0]} rows: {losses[0]} before, {losses[1]} after")
    if record.evaluations:
        console.print(_table(record))
    for sentence in verdict(record):
        console.print(sentence, soft_wrap=True)
    console.print(f"search:     {_cost(record.optimization_usage)}", soft_wrap=True)
    if record.optimizer_usage.calls:
        console.print(f"optimizer:  {_written(record)}", soft_wrap=True)
    console.print(f"evaluation: {_cost(record.evaluation_usage)}", soft_wrap=True)


def _cost(usage: Usage) -> str:
    parts = (
        f"{usage.prefix_tokens + usage.prefill_tokens:,} read, {usage.generated_tokens:,} written, "
        f"{usage.scored_tokens:,} scored, {usage.backward_tokens:,} differentiated"
    )
    return f"{usage.tokens:,} tokens ({parts}) in {clock(usage.seconds)}"


def _written(record: TrialRecord) -> str:
    """Tell what the model that writes has cost, which is counted apart even where it is the task model."""
    usage, model = record.optimizer_usage, record.config.optimizer_model
    read = usage.prefix_tokens + usage.prefill_tokens
    tokens = f"{usage.tokens:,} tokens ({read:,} read, {usage.generated_tokens:,} written)"
    name = model.name if model is not None else "the task model"
    lost = f", {usage.unreadable:,} replies unreadable" if usage.unreadable else ""
    cost = f"{tokens if usage.tokens else 'no token counts'} in {clock(usage.seconds)}"
    return f"{usage.calls:,} calls, {cost} by {name}{lost}"


def _generated(record: EvaluationRecord) -> list[str]:
    """Tell what was read from the generated text, where the likeliest choice was taken for the answer."""
    if record.generated_accuracy is None or record.generated_accuracy_interval is None:
        return []
    rate = percent(record.generated_unreadable_rate or 0.0)
    return [
        f"  generated   {percent(record.generated_accuracy)}  95 % interval "
        f"{percents(record.generated_accuracy_interval)}  ({rate} unreadable)"
    ]


def _table(record: TrialRecord) -> "Table":
    from rich.table import Table

    pairs = {split: (record.evaluation(split, record.initial), record.evaluation(split, record.best))
             for split in _SPLITS}  # fmt: skip
    pairs = {split: pair for split, pair in pairs.items() if any(pair)}
    compared: dict[str, ComparisonRecord] = {comparison.split: comparison for comparison in record.comparisons}
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("")
    for split, pair in pairs.items():
        some = next(e for e in pair if e is not None)
        role = ", selection split" if split in record.chosen_by else ""
        table.add_column(f"{split} ({some.num_examples} rows{role})", overflow="fold")

    def row(name: str, write: Any) -> None:
        table.add_row(name, *(write(e) if e is not None else "-" for e in chosen))

    metric = next((e.metric for pair in pairs.values() for e in pair if e is not None), "accuracy")
    for k, when in enumerate(("before", "after")):
        chosen = [pair[k] for pair in pairs.values()]
        row(f"{metric} {when}", lambda e: f"{percent(e.accuracy)} {percents(e.accuracy_interval)}")
    table.add_row("difference", *(_difference(compared.get(split)) for split in pairs))
    table.add_row("p value", *(f"{compared[s].p_value:.3g}" if s in compared else "-" for s in pairs))
    if any(e.label_ce is not None for pair in pairs.values() for e in pair if e is not None):
        for k, when in enumerate(("before", "after")):
            chosen = [pair[k] for pair in pairs.values()]
            row(f"loss {when}", _loss)
        table.add_row("difference", *(_loss_difference(compared.get(split)) for split in pairs))
    beside = any(e.generated_accuracy is not None for pair in pairs.values() for e in pair if e is not None)
    generated = (("generated text", "generated_accuracy"), ("unreadable text", "generated_unreadable_rate"))
    for name, field in (
        *(generated if beside else ()),
        (f"strict {metric}", "strict_accuracy"),
        ("unreadable", "unreadable_rate"),
        ("truncated", "truncated_rate"),
    ):
        cells = (" -> ".join(percent(getattr(e, field)) if e else "-" for e in pair) for pair in pairs.values())
        table.add_row(name, *cells)
    return table


def _loss(record: EvaluationRecord) -> str:
    if record.label_ce is None or record.label_ce_interval is None:
        return "-"
    low, high = record.label_ce_interval
    return f"{record.label_ce:.3f} [{low:.3f}, {high:.3f}]"


def _loss_difference(comparison: ComparisonRecord | None) -> str:
    if comparison is None or comparison.label_ce_interval is None:
        return "-"
    low, high = comparison.label_ce_interval
    return f"{comparison.label_ce_difference:+.3f} [{low:+.3f}, {high:+.3f}]"


def _difference(comparison: ComparisonRecord | None) -> str:
    if comparison is None:
        return "-"
    return f"{100 * comparison.difference:+.1f} points {percents(comparison.interval)}"


def verdict(record: TrialRecord) -> list[str]:
    """Say what the figures allow to say: above all when a difference may be chance."""
    if record.no_improvement:
        if record.nothing_usable:
            counts = ", ".join(f"{status} {number}" for status, number in record.proposals.items())
            return [f"None of the proposals could be used ({counts}): the start prompt stays."]
        return ["No prompt with a lower criterion than the initial one was found; nothing has changed."]
    by_split = {comparison.split: comparison for comparison in record.comparisons}
    # Train rows are never new: every method may have seen their answers.
    held_out = next((by_split[s] for s in ("test", "dev") if s in by_split and s not in record.chosen_by), None)
    if held_out is None:
        return ["No rows were evaluated that had no part in the search: this says nothing about new rows."]
    figures = (
        f"{100 * held_out.difference:+.1f} points, p = {held_out.p_value:.2g}; "
        f"{held_out.wins} rows became right and {held_out.losses} wrong"
    )
    if held_out.p_value >= ALPHA:
        sentence = f"On {held_out.split} rows the difference is within noise ({figures}): do not rely on it."
    else:
        better = "better" if held_out.wins > held_out.losses else "worse"
        sentence = f"On {held_out.split} rows the new prompt is {better} by more than noise explains ({figures})."
    if not held_out.wins + held_out.losses:
        sentence = f"On {held_out.split} rows both prompts are right on the very same rows: no difference at all."
    notes = [sentence]
    if held_out.label_ce_interval is not None:
        low, high = held_out.label_ce_interval
        beyond = "by more than noise explains" if low > 0 or high < 0 else "within noise"
        notes.append(f"The loss of the right answer changed {beyond} there ({_loss_difference(held_out)}).")
    if held_out.split == "dev":
        notes.append("Test rows were not evaluated.")
    if not record.best.survives_retokenization:
        notes.append("The prompt as text is tokenized differently from the prompt that was optimized.")
    return notes
