"""What a run leaves behind: typed, append-only JSON with a schema version. No pickle anywhere."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field, PlainSerializer, model_validator

from greater_ray.config import Config, TrialConfig
from greater_ray.types import Usage

SCHEMA_VERSION = 1
# Why a proposal cannot be used.
REFUSALS = (
    "unreadable",
    "empty",
    "no words",
    "unfilled slot or tag",
    "markup",
    "leak",
    "too long",
    "copied",
    "duplicate",
)


class Record(BaseModel, frozen=True, extra="forbid"):
    """Base of what is written to disk."""


# A ``Usage`` in a record: its parts, and on disk their total beside them.
Spent = Annotated[
    Usage,
    BeforeValidator(lambda value: Usage.from_json(value) if isinstance(value, Mapping) else value),
    PlainSerializer(Usage.to_json),
]


class ExampleRecord(Record):
    """One answer: the gold label, what was read, and how likely the gold label was, where the model tells.

    Scores are from 0 to 1; the strict one goes by the reasoning alone. Where the likeliest of the task's choices is
    taken for the answer, ``generated_prediction`` and ``generated_score`` tell what was read from the text beside it,
    and ``choice_nlls`` is the mean negative log-likelihood per token of every choice after the extractor, in nats.
    """

    id: str
    target: str
    prediction: str | None
    score: float
    strict_prediction: str | None
    strict_score: float
    generated_prediction: str | None = None
    generated_score: float | None = None
    choice_nlls: dict[str, float] | None = None
    truncated: bool
    reasoning_tokens: int
    label_ce: float | None
    prompt_nll: float | None
    answer_text: str
    reasoning_text: str

    @model_validator(mode="before")
    @classmethod
    def _from_right_or_wrong(cls, value: Any) -> Any:
        """Read what version 0.1.0 wrote, where an answer was right or wrong."""
        if isinstance(value, Mapping) and "correct" in value:
            renamed = {"correct": "score", "strict_correct": "strict_score"}
            return {renamed.get(key, key): float(v) if key in renamed else v for key, v in value.items()}
        return value

    @property
    def correct(self) -> bool:
        """Tell whether the answer is right in full."""
        return self.score == 1.0


class EvaluationRecord(Record):
    """One prompt on one split. Rates are shares of the rows; pairs are 95 % confidence limits.

    ``accuracy`` is the mean score by ``metric``: the share of right answers where a score is 0 or 1. If the likeliest
    choice was taken for the answer, what was read from the generated text has figures of its own. ``demonstrations``
    are the ids of the worked examples that stood in front of every question; with ``nearest`` they are a pool, of which
    every question was shown so many. Losses are None where the model does not tell likelihoods.
    """

    split: Literal["train", "dev", "test"]
    prompt_ids: tuple[int, ...]
    demonstrations: tuple[str, ...] = ()
    nearest: int = 0
    num_examples: int
    accuracy: float
    accuracy_interval: tuple[float, float]
    strict_accuracy: float
    label_ce: float | None
    label_ce_interval: tuple[float, float] | None
    unreadable_rate: float
    truncated_rate: float
    metric: str = "accuracy"
    generated_accuracy: float | None = None
    generated_accuracy_interval: tuple[float, float] | None = None
    generated_unreadable_rate: float | None = None
    examples: tuple[ExampleRecord, ...]

    def _repr_html_(self) -> str:
        """Return figures and a few answers as a notebook shows them."""
        from greater_ray.record_tables import evaluation_html

        return evaluation_html(self)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """Print one line, where IPython shows text: the whole record would be thousands of words."""
        from greater_ray.record_tables import evaluation_line

        printer.text(evaluation_line(self))


class ComparisonRecord(Record):
    """The optimized prompt against the initial one on the same rows (paired); differences are after minus before."""

    split: Literal["train", "dev", "test"]
    difference: float
    interval: tuple[float, float]
    wins: int
    losses: int
    p_value: float
    label_ce_difference: float | None
    label_ce_interval: tuple[float, float] | None


class DemonstrationRecord(Record):
    """A worked example: ``label`` is its answer as it would follow the extractor."""

    id: str
    question: str
    label: str
    rationale: str | None = None


class PromptRecord(Record):
    """A prompt as token ids and as text; ``full_text`` includes the frozen prefix, as the model sees it.

    ``demonstrations`` are the worked examples that it was measured with, in front of every question; with ``nearest``
    they are a pool, of which every question was shown so many, those most like it.
    """

    ids: tuple[int, ...]
    text: str
    full_text: str
    survives_retokenization: bool
    loss: float | None = None
    demonstrations: tuple[DemonstrationRecord, ...] = ()
    nearest: int = 0

    def given(self) -> list[dict[str, str | None]]:
        """Return the demonstrations as settings that show them again."""
        return [{"question": d.question, "answer": d.label, "rationale": d.rationale} for d in self.demonstrations]

    def was_measured(self, evaluation: EvaluationRecord) -> bool:
        """Tell whether an evaluation is of this prompt with these demonstrations."""
        shown = tuple(demonstration.id for demonstration in self.demonstrations)
        own = (self.ids, shown, self.nearest)
        return (evaluation.prompt_ids, evaluation.demonstrations, evaluation.nearest) == own


class StepRecord(Record):
    """One line of ``steps.jsonl``."""

    step: int
    position: int | None
    prompt_ids: tuple[int, ...]
    prompt_text: str
    loss: float | None
    best_loss: float | None
    accepted: int | None
    candidates: tuple[dict[str, Any], ...]
    notes: tuple[str, ...] = ()
    usage: Spent
    optimizer_usage: Spent = Usage()
    elapsed_seconds: float


class TrialRecord(Record):
    """A finished optimization. ``without_times`` is the same however often the run was interrupted.

    ``optimization_usage`` is the task model's cost of the search, a choice among finalists on dev rows included.
    ``proposals`` counts what the writer proposed by what became of it, for instance ``{"scored": 5, "duplicate": 1}``.
    ``rendered`` are the turns that asked, as the chat template wrote them, with ``{question}`` and ``{prompt}``.
    ``chosen_by`` names the splits that the prompt was selected on: the search's first, then that of the finalists.
    """

    schema_version: int = SCHEMA_VERSION
    trial_id: str
    config: TrialConfig
    stop_reason: str
    steps: int
    initial: PromptRecord
    best: PromptRecord
    finalists: tuple[PromptRecord, ...]
    chosen_by: tuple[str, ...] = ()
    evaluations: tuple[EvaluationRecord, ...]
    comparisons: tuple[ComparisonRecord, ...]
    optimization_usage: Spent
    evaluation_usage: Spent
    optimizer_usage: Spent = Usage()
    proposals: dict[str, int] = Field(default_factory=dict)
    task: dict[str, Any]
    model: dict[str, Any]
    optimizer: dict[str, Any] | None = None
    rendered: str | None = None
    environment: dict[str, Any]

    def _repr_html_(self) -> str:
        """Return prompts, scores and costs as a notebook shows them."""
        from greater_ray.record_tables import trial_html

        return trial_html(self)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """Print one line, where IPython shows text: the whole record would be thousands of words."""
        from greater_ray.record_tables import trial_line

        printer.text(trial_line(self))

    def evaluation(self, split: str, prompt: PromptRecord) -> EvaluationRecord | None:
        """Return the evaluation of a prompt on a split, if it was made."""
        return next((e for e in self.evaluations if e.split == split and prompt.was_measured(e)), None)

    @property
    def no_improvement(self) -> bool:
        """Tell whether the result is the initial prompt."""
        best, initial = self.best, self.initial
        same = (best.ids, best.demonstrations) == (initial.ids, initial.demonstrations)
        return same and best.nearest == initial.nearest

    @property
    def nothing_usable(self) -> bool:
        """Tell whether the writer proposed something and none of it could be used."""
        return bool(self.proposals) and not self.proposals.keys() - set(REFUSALS)

    def without_times(self) -> dict[str, Any]:
        """Return the record as JSON without wall times and facts about the host."""
        value = self.model_dump(mode="json", exclude={"environment"})
        for usage in (value["optimization_usage"], value["evaluation_usage"], value["optimizer_usage"]):
            del usage["seconds"]
        return value


class RunConfigFile(Config):
    """``config.json``: what the folder is for, and hashes of the rows and weights that it was begun with."""

    schema_version: int = SCHEMA_VERSION
    trial_id: str
    config: TrialConfig
    inputs: dict[str, str] = Field(default_factory=dict)
