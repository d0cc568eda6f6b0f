"""The life of a prompt: what each step tried and took, and the rows that the new prompt wins and loses."""

from collections.abc import Mapping, Sequence
from typing import Any

from greater_ray.records import EvaluationRecord, ExampleRecord, PromptRecord, StepRecord, TrialRecord
from greater_ray.report.marks import Part, token_change, word_changes
from greater_ray.results.remembered import OnRows
from greater_ray.types import TokenIds

# Candidates of a step, demonstrations, rows that a split has won or lost, and characters of one text that are shown.
MOST_CANDIDATES = 100
MOST_DEMONSTRATIONS = 50
MOST_ROWS = 60
FEW_ROWS = 3  # where a report would get too large
MOST_CHARACTERS = 8000


def shortened(text: str) -> str:
    """Cut a very long text, and say so in its place."""
    left = len(text) - MOST_CHARACTERS
    return text if left <= 0 else f"{text[:MOST_CHARACTERS]} [{left:,} more characters in record.json]"


def timeline(
    steps: Sequence[StepRecord], record: TrialRecord | None, measured: Mapping[TokenIds, OnRows]
) -> list[dict[str, Any]]:
    """Return the steps as JSON: changed parts of the prompt, candidates, losses, and costs so far.

    ``record`` is None where the search has not ended: then nothing is known of the start prompt, and the first step
    has no marks. ``kept`` is the step whose prompt is the found one; where there is none, ``found`` is the candidate
    of a step that is.
    """
    best = record.best if record is not None and not record.no_improvement else None
    reached = next((k for k, step in enumerate(steps) if best is not None and step.prompt_ids == best.ids), None)
    before = record.initial.full_text if record else None
    previous = record.initial.ids if record else None
    loss = record.initial.loss if record else None
    found = []
    for number, step in enumerate(steps):
        text = step.prompt_text.strip()
        on_rows = measured.get(step.prompt_ids)
        found.append(
            {
                "step": step.step,
                "position": step.position,
                "changed": previous is not None and step.prompt_ids != previous,
                "text": _marked(before, text, step),
                "loss": step.loss,
                "worse": loss is not None and step.loss is not None and step.loss > loss,
                "best": step.best_loss,
                "kept": number == reached,
                "found": _found_among(step, best) if best is not None and reached is None else None,
                "accepted": step.accepted,
                "candidates": [_candidate(c) for c in step.candidates[:MOST_CANDIDATES]],
                "more": max(0, len(step.candidates) - MOST_CANDIDATES),
                "notes": list(step.notes),
                "tokens": step.usage.tokens,
                "writer": step.optimizer_usage.tokens,
                "seconds": step.elapsed_seconds,
                "rowLoss": on_rows.loss if on_rows else None,
                "rowHits": on_rows.hits if on_rows else None,
            }
        )
        before, previous, loss = text, step.prompt_ids, step.loss if step.loss is not None else loss
    return found


def _found_among(step: StepRecord, best: PromptRecord) -> int | None:
    """Return the candidate that is the found prompt: the prompt after a step need not be the one that is chosen."""
    for number, candidate in enumerate(step.candidates[:MOST_CANDIDATES]):
        if candidate["token"] is None or step.position is None:
            same = candidate["text"].strip() == best.text.strip()
        else:
            ids = step.prompt_ids
            same = (*ids[: step.position], candidate["token"], *ids[step.position + 1 :]) == best.ids
        if same:
            return number
    return None


def _candidate(candidate: Mapping[str, Any]) -> list[Any]:
    text = shortened(candidate["text"])
    return [candidate["token"], text, candidate["gradient"], candidate["loss"], candidate.get("status", "scored")]


def _marked(before: str | None, text: str, step: StepRecord) -> list[Part]:
    text = shortened(text)
    if before is None or shortened(before) == text:
        return [("=", text)] if text else []
    if step.position is None or step.accepted is None:
        return word_changes(shortened(before), text)
    return token_change(shortened(before), text, step.candidates[step.accepted]["text"])


def demonstrations(prompt: PromptRecord) -> dict[str, Any]:
    """Return the worked examples of a prompt, or the pool of them: ``nearest`` tells how many a question was shown."""
    shown = [
        [shortened(d.question), None if d.rationale is None else shortened(d.rationale), shortened(d.label)]
        for d in prompt.demonstrations[:MOST_DEMONSTRATIONS]
    ]
    return {"shown": shown, "count": len(prompt.demonstrations), "nearest": prompt.nearest}


def rows_won_and_lost(record: TrialRecord, most: int = MOST_ROWS) -> dict[str, Any]:
    """Return by split the rows whose score differs between start and found prompt, the found one's wins first.

    ``left`` counts what is left out beyond ``most`` wins and as many losses.
    """
    found: dict[str, Any] = {}
    for split in record.config.evaluation.splits:
        before, after = record.evaluation(split, record.initial), record.evaluation(split, record.best)
        if before is None or after is None or record.no_improvement:
            continue
        pairs = _pairs(before, after)
        wins = [pair for pair in pairs if pair[1].score > pair[0].score]
        losses = [pair for pair in pairs if pair[1].score < pair[0].score]
        found[split] = {
            "wins": [_row(*pair) for pair in wins[:most]],
            "losses": [_row(*pair) for pair in losses[:most]],
            "counts": [len(wins), len(losses), len(pairs)],
            "left": max(0, len(wins) - most) + max(0, len(losses) - most),
        }
    return found


def _pairs(before: EvaluationRecord, after: EvaluationRecord) -> list[tuple[ExampleRecord, ExampleRecord]]:
    by_id = {example.id: example for example in before.examples}
    return [(by_id[example.id], example) for example in after.examples if example.id in by_id]


def _row(before: ExampleRecord, after: ExampleRecord) -> dict[str, Any]:
    return {"id": after.id, "target": shortened(after.target), "before": _answer(before), "after": _answer(after)}


def _answer(example: ExampleRecord) -> dict[str, Any]:
    values = {
        "read": example.prediction,
        "score": example.score,
        "strict": example.strict_prediction,
        "generated": example.generated_prediction,
        "truncated": example.truncated,
        "tokens": example.reasoning_tokens,
        "loss": example.label_ce,
        "reasoning": shortened(example.reasoning_text),
        "answer": shortened(example.answer_text),
    }
    # Where the likeliest choice is the answer, reading the text is a second opinion: then it is shown even if empty.
    if example.generated_score is None:
        del values["generated"]
    return values
