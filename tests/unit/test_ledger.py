"""Two ledgers: what the task model costs, and what the model that writes costs, even where both are one model."""

import json
from pathlib import Path
from typing import Any

import pytest

from greater_ray.assembly import resolve_config
from greater_ray.cli._summary import verdict
from greater_ray.cli.app import run
from greater_ray.config import Budget, parse
from greater_ray.errors import ConfigError, ModelError, StoreError
from greater_ray.ledger import anything, fitting, portions, spent_by_limit
from greater_ray.records import TrialRecord
from greater_ray.runs import run_config
from greater_ray.types import Usage
from greater_ray.work import TokenTexts, Unit
from tests.families import tiny_model

WORDS = 5


@pytest.fixture(scope="module")
def other_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a second model, of another family."""
    return save("qwen2", tmp_path_factory.mktemp("other") / "qwen2")


def save(family: str, folder: Path) -> Path:
    for part in tiny_model(family):
        part.save_pretrained(folder)
    return folder


def settings(tiny_folder: Path, **more: Any) -> dict[str, Any]:
    return {
        "model": str(tiny_folder),
        "task": {
            "name": "bbh/boolean_expressions",
            "data": "synthetic",
            "train_size": 3,
            "dev_size": 2,
            "test_size": 2,
        },
        "method": "tests.writing:PLUGIN",
        "method_config": {"max_new_tokens": WORDS},
        "decoding": {"max_reasoning_tokens": 4, "max_answer_tokens": 2},
        **more,
    }


def steps_in(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "steps.jsonl").read_text().splitlines()]


def test_the_writers_cost_is_counted_apart_even_where_it_is_the_task_model(tiny_folder: Path, tmp_path: Path) -> None:
    record = run_config(resolve_config(settings(tiny_folder)), tmp_path / "run")
    written = record.optimizer_usage
    assert written.calls == 2 * record.steps == 6
    assert 0 < written.generated_tokens <= 6 * WORDS
    assert written.tokens == written.prefill_tokens + written.generated_tokens
    assert written.seconds > 0
    scored = {c["text"] for step in steps_in(tmp_path / "run") for c in step["candidates"] if c["status"] == "scored"}
    assert record.optimization_usage.calls == 2 * (1 + len(scored)), "two dev rows for the start and each new prompt"
    assert record.optimizer is None, "it is the task model, whose facts stand there"


def test_every_step_holds_both_ledgers_as_they_stood_then(tiny_folder: Path, tmp_path: Path) -> None:
    record = run_config(resolve_config(settings(tiny_folder)), tmp_path / "run")
    steps = steps_in(tmp_path / "run")
    assert [step["optimizer_usage"]["calls"] for step in steps] == [2, 4, 6]
    tokens = [step["optimizer_usage"]["tokens"] for step in steps]
    assert tokens == sorted(set(tokens))
    assert steps[-1]["optimizer_usage"] == record.optimizer_usage.to_json()
    assert steps[-1]["usage"] == record.optimization_usage.to_json()


def test_a_step_that_is_given_up_is_paid_for(tiny_folder: Path, tmp_path: Path) -> None:
    whole = run_config(resolve_config(settings(tiny_folder)), tmp_path / "whole")
    first = steps_in(tmp_path / "whole")[0]["usage"]["calls"]
    assert first < whole.optimization_usage.calls
    # The limit is met by the last batch of the first step, so the second one is not begun.
    config = resolve_config(settings(tiny_folder, budget={"calls": first, "optimizer_calls": 10**6}))
    record = run_config(config, tmp_path / "run")
    assert (record.stop_reason, record.steps, record.optimization_usage.calls) == ("calls", 1, first)
    assert record.optimizer_usage.calls == 2
    config = resolve_config(settings(tiny_folder, budget={"optimizer_calls": 3}))
    record = run_config(config, tmp_path / "other")
    assert (record.stop_reason, record.steps, record.optimizer_usage.calls) == ("optimizer_calls", 1, 3)
    assert record.optimization_usage.calls == first, "the second step's one prompt was written and never scored"


LIMITS = spent_by_limit(Usage(), Usage(), 0)


def test_every_limit_counts_its_part_of_the_ledger() -> None:
    task = Usage(
        1, prefix_tokens=2, prefill_tokens=3, generated_tokens=4, scored_tokens=5, backward_tokens=6, seconds=7
    )
    writer = Usage(10, prefill_tokens=30, generated_tokens=40, seconds=70)
    assert spent_by_limit(task, writer, 99) == {
        "tokens": 20, "seconds": 99, "calls": 1, "prompt_tokens": 5, "generated_tokens": 4, "forward_tokens": 14,
        "backward_tokens": 6, "model_seconds": 7, "optimizer_calls": 10, "optimizer_tokens": 70,
        "optimizer_prompt_tokens": 30, "optimizer_generated_tokens": 40, "optimizer_seconds": 70,
    }  # fmt: skip
    assert LIMITS.keys() == Budget.model_fields.keys() - {"steps", "patience"}


@pytest.mark.parametrize("limit", [name for name in LIMITS if name != "backward_tokens"])
def test_every_limit_ends_a_run_by_its_name(limit: str, tiny_folder: Path) -> None:
    number = 1e-9 if limit.endswith("seconds") else 1
    record = run_config(resolve_config(settings(tiny_folder, budget={limit: number}, evaluation={"splits": []})))
    assert (record.stop_reason, record.steps) == (limit, 0)


def test_a_limit_is_not_passed_by_a_whole_batch(tiny_folder: Path) -> None:
    own = settings(tiny_folder, budget={"calls": 21}, evaluation={"splits": []})
    own["task"] |= {"dev_size": 80}
    record = run_config(resolve_config(own | {"shard_size": 2}))
    # The start prompt's 80 dev rows are 40 calls: eight of them, 16 rows, then two that fit, then one that passes it.
    assert (record.stop_reason, record.steps, record.optimization_usage.calls) == ("calls", 0, 22)


def test_portions_are_what_fits_the_tightest_limit() -> None:
    assert fitting({}, {"tokens": 1.0}, 5) is None
    assert fitting({"tokens": 100.0}, {"tokens": 0.0}, 0) == 8
    assert fitting({"tokens": 100.0, "calls": 9.0}, {"tokens": 50.0, "calls": 5.0}, 5) == 9
    assert fitting({"tokens": 79.0, "calls": 9.0}, {"tokens": 50.0, "calls": 5.0}, 5) == 7
    assert fitting({"tokens": 1.0}, {"tokens": 50.0}, 5) == 1
    assert fitting({"tokens": 1.0}, {"tokens": 0.0}, 5) is None
    sizes, calls = [], [Unit(TokenTexts([1]))] * 30
    for portion in portions(calls, lambda spent, done: (8, 20)[done > 0], Usage):
        sizes.append(len(portion))
    assert sizes == [8, 20, 2]
    assert [len(portion) for portion in portions(calls, anything, Usage)] == [30]


# -- replies that cannot be read ---------------------------------------------------------------------------------------


def mumbled(tiny_folder: Path, **budget: int) -> TrialRecord:
    """Run OPRO with three proposals a step, each asked for three times, and a writer whose replies hold no prompt."""
    own = {
        "method": "opro",
        "method_config": {"num_proposals": 3, "retries": 2},
        "optimizer_model": "tests.babbler:mumble",
        "budget": budget,
    }
    return run_config(resolve_config(settings(tiny_folder) | own))


def test_replies_that_cannot_be_read_are_counted_each_time_they_are_asked_for(tiny_folder: Path) -> None:
    record = mumbled(tiny_folder, steps=2)
    assert (record.optimizer_usage.calls, record.optimizer_usage.unreadable) == (18, 18)
    assert record.optimization_usage.unreadable == 0
    assert record.proposals == {"unreadable": 6}
    assert record.no_improvement
    assert verdict(record) == ["None of the proposals could be used (unreadable 6): the start prompt stays."]


def test_replies_of_a_step_that_is_given_up_are_counted_too(tiny_folder: Path) -> None:
    record = mumbled(tiny_folder, steps=2, optimizer_calls=5)
    assert (record.stop_reason, record.steps, record.proposals) == ("optimizer_calls", 0, {})
    assert (record.optimizer_usage.calls, record.optimizer_usage.unreadable) == (6, 6)


# -- a preset's limit is lifted ----------------------------------------------------------------------------------------


def test_null_lifts_the_steps_of_a_preset(tiny_folder: Path) -> None:
    own = settings(tiny_folder, evaluation={"splits": []})
    assert resolve_config(own).budget.steps == 3
    config = resolve_config(own | {"budget": {"steps": None, "optimizer_calls": 9}})
    record = run_config(config)
    # Two replies a step: the ninth is the first one of the fifth step, which is given up.
    assert (record.stop_reason, record.steps, record.optimizer_usage.calls) == ("optimizer_calls", 4, 9)
    assert resolve_config(record.config.model_dump(mode="json")) == config, "and it stays lifted in the record's config"
    with pytest.raises(ConfigError, match="nothing ends this run"):
        resolve_config(own | {"budget": {"steps": None}})


def test_null_lifts_the_steps_on_the_command_line_and_what_is_not_given_does_not(
    tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run.yaml").write_text(json.dumps(settings(tiny_folder)))
    args = ["optimize", "--config", str(tmp_path / "run.yaml"), "--max-optimizer-calls", "9"]
    assert run([*args, "--out", str(tmp_path / "preset")]) == 0
    assert "3 steps, stopped by steps" in capsys.readouterr().out
    assert run([*args, "--set", "budget.steps=null", "--out", str(tmp_path / "lifted")]) == 0
    assert "4 steps, stopped by optimizer_calls" in capsys.readouterr().out


def test_another_local_model_writes(tiny_folder: Path, other_folder: Path, tmp_path: Path) -> None:
    config = resolve_config(settings(tiny_folder, optimizer_model=str(other_folder)))
    record = run_config(config, tmp_path / "run")
    assert record.optimizer is not None
    assert record.optimizer["architecture"] == "Qwen2ForCausalLM"
    assert record.model["architecture"] == "LlamaForCausalLM"
    assert record.optimizer_usage.calls == 6
    own = run_config(resolve_config(settings(tiny_folder)))
    texts = [[c["text"] for c in step["candidates"]] for step in steps_in(tmp_path / "run")]
    assert texts[0] != [p.text for p in own.finalists], "and its texts are its own"
    assert config.trial_id() != own.trial_id


def test_a_run_is_continued_with_the_same_writer_only(tiny_folder: Path, tmp_path: Path) -> None:
    folder = save("qwen2", tmp_path / "writer")
    config = resolve_config(settings(tiny_folder, optimizer_model=str(folder)))
    expected = run_config(config, tmp_path / "run")
    (tmp_path / "run" / "record.json").unlink()
    again = run_config(config, tmp_path / "run")
    assert again.without_times() == expected.without_times()
    (tmp_path / "run" / "record.json").unlink()
    model, _ = tiny_model("qwen2")
    model.get_input_embeddings().weight.data[0] += 1
    model.save_pretrained(folder)
    with pytest.raises(StoreError, match="begun with other optimizer_weights"):
        run_config(config, tmp_path / "run")


def test_an_unusable_writer_is_named_by_its_own_option(
    tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises((ModelError, ConfigError), match=r"^optimizer_model\.name: 'smollm'"):
        run_config(resolve_config(settings(tiny_folder, optimizer_model="smollm")))
    with pytest.raises(ConfigError, match=r"optimizer_model\.nam: unknown option; allowed: .*Did you mean 'name'\?"):
        resolve_config(settings(tiny_folder, optimizer_model={"name": "x", "nam": 1}))
    args = ["optimize", "--model", str(tiny_folder), "--task", "bbh/navigate", "--data", "synthetic"]
    assert run([*args, "--optimizer-model", "smollm", "--out", str(tmp_path / "run")]) in (1, 2)
    error = capsys.readouterr().err
    assert error.startswith("error: --optimizer-model: 'smollm'")
    assert not (tmp_path / "run").exists(), "a mistyped model leaves nothing behind"


def test_the_options_of_the_command_line_end_a_run(
    tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ["optimize", "--model", str(tiny_folder), "--task", "bbh/boolean_expressions", "--data", "synthetic",
            "--train-size", "2", "--dev-size", "2", "--test-size", "2", "--max-reasoning-tokens", "4", "--method",
            "tests.writing:PLUGIN", "--set", "method.max_new_tokens=5"]  # fmt: skip
    for option, reason in (
        ("--max-calls", "calls"), ("--max-generated-tokens", "generated_tokens"),
        ("--max-optimizer-calls", "optimizer_calls"), ("--max-optimizer-tokens", "optimizer_tokens"),
    ):  # fmt: skip
        folder = tmp_path / reason
        assert run([*args, option, "1", "--out", str(folder)]) == 0
        assert f"stopped by {reason}" in capsys.readouterr().out
        assert TrialRecord.model_validate_json((folder / "record.json").read_text()).stop_reason == reason
    assert parse(TrialRecord, json.loads((folder / "record.json").read_text())).optimizer_usage.calls == 1
