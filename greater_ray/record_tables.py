"""Records as a notebook shows them: a small table in HTML, with every text of a model or user escaped."""

from typing import TYPE_CHECKING

from greater_ray.shown import block, foreign, line, percent, percents, points, shortened, table, visible

if TYPE_CHECKING:
    from greater_ray.records import EvaluationRecord, TrialRecord

_ROWS = 3  # answers of an evaluation that are shown
_ANSWER = 240  # characters of a reasoning


def trial_html(record: "TrialRecord") -> str:
    """Return prompts, scores before and after, and costs of a finished trial."""
    config = record.config
    made = " (synthetic)" if config.task.data == "synthetic" else ""
    name = foreign(f"{config.method} on {config.task.name}{made} with {config.model.name}, seed {config.seed}")
    found = "the start prompt is kept" if record.no_improvement else foreign(record.best.full_text, 1000)
    heads = ["", "rows", "start", "found", "95 % interval", "change", "p", "loss of the right answer"]
    spent = (
        f"search {record.optimization_usage.tokens:,} tokens, writer {record.optimizer_usage.tokens:,}, "
        f"final evaluation {record.evaluation_usage.tokens:,}"
    )
    return block(
        line(f"<b>{name}</b>: {record.steps} steps, ended by {foreign(record.stop_reason)}"),
        table(["prompt", ""], [["start", foreign(record.initial.full_text, 1000)], ["found", found]], words=2),
        table(heads, [row for split in config.evaluation.splits for row in _score(record, split)]),
        line(spent, dim=True),
    )


def trial_line(record: "TrialRecord") -> str:
    """Return the same in one line."""
    config = record.config
    name = f"{config.method} on {config.task.name} with {config.model.name}, seed {config.seed}"
    return visible(f"TrialRecord({name}: {record.steps} steps, found {shortened(record.best.full_text, 200)!r})")


def _score(record: "TrialRecord", split: str) -> list[list[str]]:
    before, after = record.evaluation(split, record.initial), record.evaluation(split, record.best)
    if before is None or after is None:
        return []
    change = next((c for c in record.comparisons if c.split == split), None)
    selection = " (selection)" if split in record.chosen_by else ""
    told = [points(change.difference), f"{change.p_value:.2g}"] if change else ["-", "-"]
    losses = f"{_loss(before.label_ce)} to {_loss(after.label_ce)}" if change else _loss(after.label_ce)
    figures = [percent(before.accuracy), f"<b>{percent(after.accuracy)}</b>", percents(after.accuracy_interval)]
    return [[f"{split}{selection}", str(after.num_examples), *figures, *told, losses]]


def _loss(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def evaluation_line(record: "EvaluationRecord") -> str:
    """Return the score of one prompt on one split in one line."""
    score = f"{record.metric} {percent(record.accuracy)} {percents(record.accuracy_interval)}"
    return f"EvaluationRecord({record.split}: {record.num_examples} rows, {score})"


def evaluation_html(record: "EvaluationRecord") -> str:
    """Return the figures of one prompt on one split, and its first answers."""
    heads = ["", "rows", record.metric, "95 % interval", "strict", "loss of the right answer", "unreadable", "cut off"]
    figures = [
        record.split,
        str(record.num_examples),
        f"<b>{percent(record.accuracy)}</b>",
        percents(record.accuracy_interval),
        percent(record.strict_accuracy),
        _loss(record.label_ce),
        percent(record.unreadable_rate),
        percent(record.truncated_rate),
    ]
    answers = [
        [
            foreign(answer.id, 60, wrap=False),
            foreign(answer.target),
            "unreadable" if answer.prediction is None else foreign(answer.prediction),
            foreign(answer.reasoning_text.strip(), _ANSWER),
            f"{answer.score:g}",
        ]
        for answer in record.examples[:_ROWS]
    ]
    more = record.num_examples - len(answers)
    return block(
        table(heads, [figures]),
        table(["row", "right answer", "read", "reasoning", "score"], answers, words=4),
        *([line(f"and {more:,} more rows in .examples", dim=True)] if more > 0 else []),
    )
