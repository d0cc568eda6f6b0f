"""Every method, through the one loop: a run that is stopped or killed anywhere ends like an undisturbed one."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest

from greater_ray.assembly import Served, assemble, local_models, resolve_config
from greater_ray.config import ModelConfig, TrialConfig, parse
from greater_ray.errors import DataError, Interrupted, MethodError
from greater_ray.ledger import spent_by_limit
from greater_ray.observer import Observer
from greater_ray.plugins import load
from greater_ray.protocols import Problem, Score, Task
from greater_ray.records import StepRecord, TrialRecord
from greater_ray.runs import run_config
from greater_ray.settings import merged
from greater_ray.sharding import ShardedModel
from greater_ray.store import Unsaved
from greater_ray.trial import Trial
from greater_ray.types import Example, Usage, total
from greater_ray.work import Generate, PromptRoom, Unit
from tests.all_methods import METHODS, SEARCHING, SMALL, STEPPING, STEPS, settings_of
from tests.families import save_tiny
from tests.remembered import remembering

# Limits hold for methods from outside too; this one lets a model write.
LIMITED = [*SEARCHING, "tests.writing:PLUGIN"]
# Where so few rows would all be drawn, whatever the seed is.
DRAWING = {"greater": {"proposal_samples": 1}, "pez": {"batch_size": 2}}
LEDGER = [name for name in spent_by_limit(Usage(), Usage(), 0) if "seconds" not in name]


# Straight runs have a model of their own. A warm one is the same for several runs: what an engine keeps only saves
# time, so they must end like runs on a cold one. All others are about the loop: they have known results again.
WARM = local_models()
MODELS = remembering(WARM)


def run_warm(config: TrialConfig, out: Path | None = None, **further: Any) -> TrialRecord:
    return run_config(config, out, models=WARM, **further)


def run_known(config: TrialConfig, out: Path | None = None, **further: Any) -> TrialRecord:
    return run_config(config, out, models=MODELS, **further)


@pytest.fixture(scope="module")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a model of one layer: half the work, and what a model computes is tested elsewhere."""
    return save_tiny("llama", tmp_path_factory.mktemp("tiny") / "llama", layers=1)


@pytest.fixture(scope="module")
def configure(tiny_folder: Path) -> Callable[..., TrialConfig]:
    def make(method: str = "greater", **settings: Any) -> TrialConfig:
        base = {"model": {"name": str(tiny_folder)}, "task": {"name": "bbh/boolean_expressions"}, "method": method}
        return resolve_config(merged(base, SMALL, settings_of(method), settings))

    return make


@pytest.fixture(scope="module")
def straight(
    configure: Callable, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], tuple[Path, TrialRecord]]:
    """Return the folder and the record of an undisturbed run of a method."""
    known: dict[str, tuple[Path, TrialRecord]] = {}

    def run(method: str) -> tuple[Path, TrialRecord]:
        if method not in known:
            folder = tmp_path_factory.mktemp("straight") / method.partition(":")[0]
            known[method] = folder, run_config(configure(method), folder)
        return known[method]

    return run


@pytest.fixture(scope="module")
def searched(
    configure: Callable, straight: Callable, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], tuple[Path, TrialRecord]]:
    """Like ``straight``, with a ledger that holds the steps alone: there is no choice among finalists."""
    known: dict[str, tuple[Path, TrialRecord]] = {}

    def run(method: str) -> tuple[Path, TrialRecord]:
        if not configure(method).evaluation.dev_select_top:
            return straight(method)
        if method not in known:
            folder = tmp_path_factory.mktemp("searched") / method
            known[method] = folder, run_config(configure(method, evaluation={"dev_select_top": 0}), folder)
        return known[method]

    return run


class After:
    """Ask to stop after ``num`` units of work."""

    def __init__(self, num: int) -> None:
        self.left = num

    def __call__(self) -> bool:
        self.left -= 1
        return self.left < 0


def steps_in(folder: Path) -> list[dict[str, Any]]:
    """Return the steps without their times; a run whose first step was given up has no file."""
    path = folder / "steps.jsonl"
    steps = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    for step in steps:
        del step["elapsed_seconds"], step["usage"]["seconds"], step["optimizer_usage"]["seconds"]
    return steps


def run_in_pieces(config: TrialConfig, folder: Path, size: int, damage: Callable[[Path, int], None]) -> TrialRecord:
    """Run ``size`` units of work at a time, with ``damage`` done to the folder in between."""
    for turn in range(60):
        try:
            return run_known(config, folder, should_stop=After(size))
        except Interrupted:
            pass
        damage(folder, turn)
    raise AssertionError("never came to an end")


# -- interrupted and killed --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "size"), [*((name, 1) for name in STEPPING), *((name, 2) for name in ("greater", "opro", "few-shot"))]
)
def test_interrupted_after_every_unit_of_work_it_ends_like_a_straight_run(
    method: str, size: int, configure: Callable, straight: Callable, tmp_path: Path
):
    turns = []
    record = run_in_pieces(configure(method), tmp_path / "run", size, lambda _, turn: turns.append(turn))
    folder, expected = straight(method)
    assert len(turns) >= (STEPS if size == 1 else 2)
    assert record.without_times() == expected.without_times()
    assert steps_in(tmp_path / "run") == steps_in(folder)


def append_half(folder: Path, name: str) -> None:
    with (folder / name).open("ab") as file:
        file.write(b'{"half": [1, 2')


def append_again(folder: Path, name: str) -> None:
    path = folder / name
    if path.exists() and (lines := path.read_bytes().splitlines(keepends=True)):
        path.write_bytes(b"".join([*lines, lines[-1]]))


def killed_between_lines(folder: Path, turn: int) -> None:
    """Leave what a kill can leave: lines without a checkpoint, a half line, a half file beside the checkpoint."""
    if (folder / "state.json").exists():
        damage = append_half if turn % 2 else append_again
        damage(folder, "steps.jsonl")
        damage(folder, "rollouts.jsonl")
        damage(folder, "answers.jsonl")
        append_again(folder, "evaluations.jsonl")
        append_half(folder, "evaluations.jsonl")
    (folder / ".state.json.tmp").write_text('{"schema_ver')


def lose_half_of_the_last_evaluation(folder: Path, turn: int) -> None:
    path = folder / "evaluations.jsonl"
    # Only every other time: else the same shard would be lost for ever.
    if turn % 2 and path.exists() and path.stat().st_size > 20:
        path.write_bytes(path.read_bytes()[:-20])


@pytest.mark.parametrize("method", STEPPING)
@pytest.mark.parametrize("damage", [killed_between_lines, lose_half_of_the_last_evaluation])
def test_killed_between_two_lines_it_ends_like_a_straight_run(
    method: str, damage: Callable, configure: Callable, straight: Callable, tmp_path: Path
):
    record = run_in_pieces(configure(method), tmp_path / "run", 1, damage)
    folder, expected = straight(method)
    assert record.without_times() == expected.without_times()
    assert steps_in(tmp_path / "run") == steps_in(folder)


@pytest.mark.parametrize("method", SEARCHING)
def test_a_step_that_was_killed_half_way_is_done_again(
    method: str, configure: Callable, straight: Callable, tmp_path: Path
):
    class Killed(Exception):  # noqa: N818 - nobody's mistake
        """Stands for the end of the process."""

    class Copying(Observer):
        def stepped(self, config: TrialConfig, record: StepRecord) -> None:
            # The last checkpoint will be lost, its lines will be there.
            (tmp_path / f"state {record.step}").write_bytes((folder / "state.json").read_bytes())
            if record.step == STEPS - 1:
                raise Killed

    folder = tmp_path / "run"
    with pytest.raises(Killed):
        run_known(configure(method), folder, observer=Copying())
    (folder / "state.json").write_bytes((tmp_path / f"state {STEPS - 2}").read_bytes())
    record = run_known(configure(method), folder)
    assert record.without_times() == straight(method)[1].without_times()
    assert steps_in(folder) == steps_in(straight(method)[0])


@pytest.mark.parametrize("method", METHODS)
def test_a_finished_run_is_not_run_again(method: str, straight: Callable, configure: Callable):
    folder, record = straight(method)
    before = {p.name: p.stat().st_mtime_ns for p in folder.iterdir() if not p.name.startswith(".")}
    assert run_known(configure(method), folder, should_stop=lambda: True) == record
    assert {p.name: p.stat().st_mtime_ns for p in folder.iterdir() if not p.name.startswith(".")} == before


# -- the same settings, the same record --------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_the_config_of_a_record_runs_again_to_the_same_record_in_another_folder(
    method: str, straight: Callable, tmp_path: Path
):
    folder, record = straight(method)
    held = json.loads((folder / "record.json").read_text())["config"]
    config = resolve_config(held)
    assert config.trial_id() == record.trial_id == parse(TrialConfig, held).trial_id()
    again = run_config(config, tmp_path / "again")
    assert again.without_times() == record.without_times()
    assert run_warm(config).without_times() == record.without_times(), "without a folder too"


@pytest.mark.parametrize("method", METHODS)
def test_another_seed_is_another_trial(method: str, configure: Callable, straight: Callable, tmp_path: Path):
    draws = {"method_config": DRAWING.get(method, {})}
    config = configure(method, seed=1, **draws)
    assert config.trial_id() != configure(method, **draws).trial_id()
    record = run_known(config, tmp_path / "run")
    folder, other = straight(method)
    if method in DRAWING:
        other = run_known(configure(method, **draws), folder := tmp_path / "other")
    assert record.trial_id != other.trial_id
    assert record.initial == other.initial.model_copy(update={"loss": record.initial.loss})
    assert (steps_in(tmp_path / "run") != steps_in(folder)) == load("methods", method).seeded


# -- budgets -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", SEARCHING)
@pytest.mark.parametrize(
    ("budget", "reason", "steps"),
    [
        ({"steps": 0}, "steps", 0),
        ({"steps": 2}, "steps", 2),
        ({"tokens": 1}, "tokens", 0),
        ({"seconds": 1e-9}, "seconds", 0),
        ({"steps": 2, "tokens": 10**9, "seconds": 1e6, "patience": 99}, "steps", 2),
    ],
)
def test_a_budget_ends_the_run_with_its_name(
    method: str, budget: dict, reason: str, steps: int, configure: Callable, tmp_path: Path
):
    given = {"budget": {"steps": 10**6} | budget, "evaluation": {"splits": ["dev"]}}
    record = run_known(configure(method, **given), tmp_path / "run")
    assert record.stop_reason == reason
    # A limit is passed by one batch of work at most, which may be a whole step.
    assert record.steps in ((0, 1) if reason == "tokens" else (steps,))
    if record.steps == 0:
        assert record.best.ids == record.initial.ids
        assert record.comparisons == ()


@pytest.mark.parametrize("method", [*SEARCHING, "tests.stubborn:PLUGIN"])
def test_patience_ends_the_run_after_as_many_steps_without_a_better_prompt(
    method: str, configure: Callable, tmp_path: Path
):
    budget = {"steps": 60, "patience": 2}
    record = run_known(configure(method, budget=budget, evaluation={"splits": []}), tmp_path / "run")
    # A method need not find anything better in its first steps: then its start is the best for as long.
    best = [record.initial.loss, *(step["best_loss"] for step in steps_in(tmp_path / "run"))]
    assert (record.stop_reason, record.steps) == ("patience", len(best) - 1)
    assert best[-1] == best[-3]
    # Where the start is scored in the first step, that step counts as one that found the best.
    assert all(best[k] != best[k - 2] for k in range(3, len(best) - 1)), "and not before"


@pytest.mark.parametrize("accepted", [1, 1789, -1])
def test_an_accepted_candidate_that_is_none_is_refused_by_the_methods_name(
    accepted: int, configure: Callable, tmp_path: Path
):
    config = configure("tests.stubborn:PLUGIN", method_config={"accepted": accepted}, budget={"steps": 2})
    with pytest.raises(MethodError, match=rf"'tests\.stubborn:PLUGIN': step 1 has 1 candidates, .* is {accepted};"):
        run_known(config, tmp_path / "run")
    assert steps_in(tmp_path / "run") == [], "nothing is written that cannot be shown"


class Metered(Observer):
    """Serves models and notes what every batch of work of the search costs, by the limit that counts it."""

    def __init__(self) -> None:
        self.batches: list[dict[str, int]] = []
        self.searching, self.models = True, MODELS

    def evaluating(self, split: str, which: str, done: int, of: int) -> None:
        self.searching = False

    def serve(self, config: ModelConfig) -> Served:
        served = self.models(config)

        class Noting:
            width = 1

            def run(_, units: list[Unit]) -> list[tuple[Any, Usage]]:  # noqa: N805 - self is the meter
                results = served.executor.run(units)
                spent = total(usage for _, usage in results)
                writes = bool(units) and isinstance(units[0].work, Generate)
                if self.searching and spent.tokens:
                    self.batches.append({name: _counted(name, spent, writes) for name in LEDGER})
                return results

        return served._replace(executor=Noting())


def _counted(limit: str, spent: Usage, writes: bool) -> int:
    task, writer = (Usage(), spent) if writes else (spent, Usage())
    return int(spent_by_limit(task, writer, 0)[limit])


def spent_in(record: TrialRecord, limit: str) -> int:
    return int(spent_by_limit(record.optimization_usage, record.optimizer_usage, 0)[limit])


# Every method meets a limit on either model, and every limit is met: by a method of each kind.
KINDS = ("greater", "opro", "tests.writing:PLUGIN")
EITHER_MODEL = ("forward_tokens", "optimizer_tokens")
LIMITS_MET = [(name, limit) for name in LIMITED for limit in LEDGER if name in KINDS or limit in EITHER_MODEL]


@pytest.mark.parametrize(("method", "limit"), LIMITS_MET)
def test_a_limit_of_the_ledger_ends_the_run_and_is_passed_by_one_batch_at_most(
    method: str, limit: str, configure: Callable, searched: Callable, tmp_path: Path
):
    expected = searched(method)[1]
    whole = spent_in(expected, limit)
    number = max(1, whole // 2)
    budget, meter = {"steps": STEPS, limit: number}, Metered()
    config = configure(method, budget=budget, evaluation={"splits": ["dev"], "dev_select_top": 0})
    record = run_config(config, tmp_path / "run", observer=meter, models=meter.serve)
    if not whole:
        assert record.stop_reason == expected.stop_reason, "what a method does not spend does not stop it"
        return
    used, last = spent_in(record, limit), [batch[limit] for batch in meter.batches if batch[limit]][-1]
    assert used >= number
    assert used - last < number, "the batch before the last one had left the ledger below the limit"
    if record.stop_reason == expected.stop_reason:
        assert last > whole - number, "the very last batch of the search passed the limit"
        return
    assert record.stop_reason == limit
    assert record.steps <= expected.steps
    assert meter.batches[-1][limit], "no work of any kind follows the batch that passed the limit"
    assert steps_in(tmp_path / "run") == steps_in(searched(method)[0])[: record.steps], "finished steps are the same"


@pytest.mark.parametrize("method", LIMITED)
def test_interrupted_and_killed_it_meets_a_limit_like_a_straight_run(
    method: str, configure: Callable, searched: Callable, tmp_path: Path
):
    expected = searched(method)[1]
    # Whatever comes first: most methods meet it within a step, which is given up.
    limits = {limit: max(1, 2 * spent_in(expected, limit) // 3) for limit in LEDGER if spent_in(expected, limit)}
    config = configure(method, budget={"steps": STEPS, **limits}, evaluation={"splits": ["dev"]})
    record = run_known(config, tmp_path / "straight")
    assert record.stop_reason in limits
    pieces = run_in_pieces(config, tmp_path / "pieces", 1, killed_between_lines)
    assert pieces.without_times() == record.without_times()
    assert steps_in(tmp_path / "pieces") == steps_in(tmp_path / "straight")


# -- which rows are seen, and which prompt is chosen -------------------------------------------------------------------


class Guarded:
    """A task whose test rows are locked while the method is at work, and that scores by a rule of its own."""

    def __init__(self, task: Task, rule: int) -> None:
        self.task, self.locked, self.opened, self.rule = task, False, 0, rule
        self.name, self.answer_type = task.name, task.answer_type
        self.provenance: dict[str, Any] = {}

    def train(self) -> list[Example]:
        return self.task.train()

    def dev(self) -> list[Example]:
        return self.task.dev()

    def test(self) -> list[Example]:
        assert not self.locked, "test rows asked for by a method"
        self.opened += 1
        return self.task.test()

    def score(self, example: Example, reasoning_text: str, answer_text: str) -> Score:
        # A random model is never right; this is, now and then, and differently under every prompt.
        right = crc32(f"{self.rule} {example.id} {reasoning_text}".encode()) % 2 == 0
        return Score(right, answer_text, False, None)


class Watched:
    """A method during whose work the test rows are locked, and that is not handed any."""

    def __init__(self, method: Any, task: Guarded) -> None:
        self.method, self.task = method, task
        self.config_type, self.selects_by = method.config_type, method.selects_by

    def start(self, *args: Any) -> Any:
        return self._locked(self.method.start, *args)

    def step(self, *args: Any) -> Any:
        return self._locked(self.method.step, *args)

    def _locked(self, work: Callable, problem: Problem, *args: Any) -> Any:
        assert not {*problem.examples, *problem.dev} & {*self.task.task.test()}
        self.task.locked = True
        result = work(problem, *args)
        self.task.locked = False
        return result


def guarded_run(config: TrialConfig, rule: int = 0) -> tuple[Guarded, TrialRecord]:
    parts = assemble(config, MODELS)
    task = Guarded(parts.task, rule)
    return task, Trial(replace(parts, task=task, method=Watched(parts.method, task)), Unsaved()).run()


@pytest.mark.parametrize("method", METHODS)
def test_no_method_comes_by_test_rows(method: str, configure: Callable):
    task, record = guarded_run(configure(method))
    assert task.opened > 0
    assert {e.split for e in record.evaluations} == {"train", "dev", "test"}
    task, _ = guarded_run(configure(method, evaluation={"splits": ["train", "dev"]}))
    assert task.opened == 0, "not loaded where they are not asked for"


class LongRow:
    """A task with a last test row that leaves a prompt so much ``room``, in tokens."""

    def __init__(self, task: Task, model: ShardedModel, room: int) -> None:
        self.name, self.answer_type, self.provenance = task.name, task.answer_type, {}
        self.train, self.dev, self.score = task.train, task.dev, task.score
        *rows, row = task.test()
        # A word is a token or more, so the first question that is long enough leaves this room or little less.
        while model.ask(PromptRoom([row])) > room:
            words = max(1, (model.ask(PromptRoom([row])) - room) // 8)
            row = replace(row, id="long", question=row.question + " and" * words)
        self.test = lambda: [*rows, row]


def long_row_run(config: TrialConfig, room: int, observer: Observer) -> tuple[TrialRecord, LongRow]:
    parts = assemble(config, MODELS)
    task = LongRow(parts.task, parts.model, room)
    return Trial(replace(parts, task=task), Unsaved(), observer).run(), task


def test_a_prompt_leaves_room_for_the_longest_test_row(configure: Callable):
    text = {"method_config": {"form": "text"}}
    whole = run_config(configure("few-shot", **text))
    room = len(whole.best.ids) - 1
    record, task = long_row_run(configure("few-shot", **text), room, Observer())
    assert len(whole.initial.ids) < len(record.best.ids) <= room, "one example or more is left out, not all"
    after = record.evaluation("test", record.best)
    assert after.examples[-1].id == task.test()[-1].id == "long"


@pytest.mark.parametrize("method", ["greater", "few-shot", "zero-shot-cot"])
def test_a_start_prompt_that_does_not_fit_a_test_row_is_refused_before_the_search(method: str, configure: Callable):
    class Refused(Observer):
        def started(self, config: TrialConfig, done_steps: int, steps: int | None) -> None:
            raise AssertionError("began to search")

    with pytest.raises(DataError, match=r"row 'long': .* room for [012] tokens of prompt, the start prompt has \d+;"):
        long_row_run(configure(method), 2, Refused())


def test_a_row_that_is_not_evaluated_is_in_nobodys_way(configure: Callable):
    settings = {"evaluation": {"splits": ["dev"]}, "method_config": {"form": "text"}}
    record, _ = long_row_run(configure("few-shot", **settings), 2, Observer())
    assert len(record.best.ids) > len(record.initial.ids) > 2


@pytest.mark.parametrize("method", SEARCHING)
def test_among_the_best_prompts_the_one_best_on_dev_is_chosen(method: str, configure: Callable):
    chosen, by_dev, offered = set(), True, set()
    for rule in range(4):
        _, record = guarded_run(configure(method, evaluation={"dev_select_top": 3}), rule)
        finalists = record.finalists[:3]
        losses = [p.loss for p in record.finalists]
        assert losses == sorted(losses)
        accuracy = [e.accuracy for p in finalists if (e := record.evaluation("dev", p)) is not None]
        assert len(accuracy) == len(finalists)
        best = accuracy.index(max(accuracy))
        assert record.best == finalists[best]
        chosen.add(best)
        offered.add(len(finalists))
        by_dev &= losses[:3] == pytest.approx([1 - value for value in accuracy])
    # A method that goes by dev accuracy itself, or has one result at any time, leaves nothing to choose.
    assert by_dev or offered == {1} or len(chosen) > 1, "the case needs choices that differ from the lowest loss"
    _, plain = guarded_run(configure(method, evaluation={"dev_select_top": 0}))
    # Among equals a method may prefer a later one.
    assert plain.best in [p for p in plain.finalists if p.loss == plain.finalists[0].loss]


@pytest.mark.parametrize("method", ["greater", "opro"])
def test_the_choice_among_finalists_is_booked_as_search_and_cut_off_by_no_limit(method: str, configure: Callable):
    def run(top: int, **budget: int) -> TrialRecord:
        return run_known(configure(method, budget=budget, evaluation={"splits": ["test"], "dev_select_top": top}))

    def answered(record: TrialRecord, split: str) -> int:
        return sum(e.num_examples for e in record.evaluations if e.split == split)

    plain, chosen = run(0), run(3)
    calls, choice = plain.optimization_usage.calls, answered(chosen, "dev")
    assert choice > SMALL["task"]["dev_size"], "the case needs several finalists"
    assert chosen.optimization_usage.calls == calls + choice
    assert chosen.evaluation_usage.calls == answered(chosen, "test")
    limited = run(3, steps=10**6, calls=calls)
    assert limited.stop_reason == "calls"
    assert answered(limited, "dev") == choice
    assert limited.optimization_usage.calls == calls + choice


# -- GReaTer's own switches --------------------------------------------------------------------------------------------


def test_the_gradient_without_reasoning_goes_another_way(configure: Callable, straight: Callable, tmp_path: Path):
    record = run_known(configure(method_config={"gradient_without_reasoning": True}), tmp_path / "run")
    assert record.steps == STEPS
    assert record.optimization_usage.backward_tokens < straight("greater")[1].optimization_usage.backward_tokens
    gradients = [[c["gradient"] for c in step["candidates"]] for step in steps_in(tmp_path / "run")]
    assert gradients != [[c["gradient"] for c in s["candidates"]] for s in steps_in(straight("greater")[0])]


def test_the_released_preset_runs(configure: Callable, tmp_path: Path):
    record = run_known(configure(preset="released", budget={"steps": 2}), tmp_path / "run")
    assert (record.steps, record.stop_reason) == (2, "steps")
    assert record.config.layout.joint == ". "
    assert record.config.method_config["criterion"] == "mistakes"
    assert record.initial.loss is None, "the initial prompt does not count"
    assert len(record.finalists) == 2
    assert {e.split for e in record.evaluations} == {"train", "dev", "test"}
