"""A task model that a server computes: whole runs, their records, and what is refused."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from greater_ray.assembly import resolve_config
from greater_ray.cli.app import run
from greater_ray.config import ModelConfig, TrialConfig
from greater_ray.errors import ConfigError, EndpointError, ModelError
from greater_ray.grid.run import LocalBackend, run_grid
from greater_ray.models._pieces import pieces, text_of
from greater_ray.runs import run_config
from tests.grids import loaded
from tests.served import Server, serving

KEY = "sk-this-key-must-stand-nowhere-0123456789"


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)


@pytest.fixture(scope="module")
def vllm(tiny_folder: Path) -> Iterator[Server]:
    with serving(tiny_folder) as server:
        yield server


@pytest.fixture
def plain(tiny_folder: Path) -> Iterator[Server]:
    with serving(tiny_folder, kind="plain") as server:
        yield server


def model(server: Server, **endpoint: Any) -> dict[str, Any]:
    return {"name": f"openai/{server.name}", "endpoint": {"base_url": server.url, "retries": 0, **endpoint}}


def config(server: Server, method: str = "zero-shot-cot", **more: Any) -> TrialConfig:
    task = {"name": "bbh/boolean_expressions", "data": "synthetic", "train_size": 4, "dev_size": 2, "test_size": 3}
    return resolve_config(
        {
            "model": model(server),
            "task": {**task, **more.pop("task", {})},
            "method": method,
            "decoding": {"max_reasoning_tokens": 6, "max_answer_tokens": 3},
            **more,
        }
    )


# -- whole runs --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["gepa", "gpo", "textgrad", "few-shot"])
def test_methods_that_need_no_gradient_run_from_start_to_record(
    plain: Server, method: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ["optimize", "--model", f"openai/{plain.name}", "--task", "bbh/boolean_expressions", "--data", "synthetic",
            "--method", method, "--train-size", "3", "--dev-size", "2", "--test-size", "2", "--steps", "1",
            "--max-reasoning-tokens", "6", "--set", f"model.endpoint.base_url={plain.url}",
            "--out", str(tmp_path / "run")]  # fmt: skip
    assert run(args) == 0, capsys.readouterr().err
    record = json.loads((tmp_path / "run" / "record.json").read_text())
    assert record["model"]["server"] == "unknown"
    assert record["model"]["answers"] == "asked for in a turn of their own"
    assert record["model"]["likelihoods"] == "not told by the endpoint"
    assert record["environment"]["computed_on"] == f"endpoint at {plain.url.split('/')[2]}"
    (test,) = {json.dumps(e["label_ce"]) for e in record["evaluations"] if e["split"] == "test"}
    assert test == "null", "losses are absent, not invented"
    assert record["evaluation_usage"]["generated_tokens"] > 0
    assert "loss" not in capsys.readouterr().out.partition("prompt after")[2]
    for file in (tmp_path / "run").rglob("*"):
        assert not file.is_file() or KEY not in file.read_text(errors="replace")


def test_a_run_that_broke_off_asks_no_row_again(plain: Server, tmp_path: Path) -> None:
    settings = config(plain, task={"train_size": 1, "dev_size": 0, "test_size": 12})
    one_by_one = settings.model_copy(
        update={"model": ModelConfig.model_validate(model(plain, concurrency=1)),
                "evaluation": settings.evaluation.model_copy(update={"splits": ("test",)})}
    )  # fmt: skip
    plain.instead = lambda request: (500, {"error": {"message": "away"}}) if len(plain.requests) > 10 else None
    with pytest.raises(ModelError, match=r"row '.*': the endpoint answered with status 500: away\.$"):
        run_config(one_by_one, tmp_path / "run")
    answered = [request for request in plain.requests if len(request["messages"]) > 1]
    plain.instead = lambda request: None
    del plain.requests[:]
    record = run_config(one_by_one, tmp_path / "run")
    again = [request for request in plain.requests if len(request["messages"]) > 1]
    assert len(answered) == 5
    assert len(again) == 12 - 5
    assert record == run_config(one_by_one, tmp_path / "run")
    whole = run_config(one_by_one, tmp_path / "straight")
    assert whole.without_times() == record.without_times()


def test_concurrency_changes_no_answer(vllm: Server, tmp_path: Path) -> None:
    records = []
    for number in (1, 6):
        settings = config(vllm).model_copy(
            update={"model": ModelConfig.model_validate(model(vllm, concurrency=number))}
        )
        records.append(run_config(settings).without_times())
        del records[-1]["config"]["model"]["endpoint"]
    assert records[0] == records[1]


def test_a_transfer_measures_prompts_on_an_endpoint(vllm: Server, tiny_folder: Path, tmp_path: Path) -> None:
    grid = loaded(tiny_folder, seeds=[0], transfer={"models": [model(vllm)], "splits": ["test"]})
    result = run_grid(grid, tmp_path, LocalBackend())
    assert result.complete, result
    targets = [cell for cell, _ in result.transfers]
    assert targets
    for cell in targets:
        assert cell.config.model.name == f"openai/{vllm.name}"
        assert cell.config.model.threads is None, "threads are those of a model that is computed here"


def test_a_grid_reaches_for_its_endpoints_before_anything_starts(
    vllm: Server, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = loaded(tiny_folder, transfer={"models": [model(vllm)]})
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(EndpointError, match=r"^transfer.models: openai/tiny: model.name: 'openai/tiny' needs a key"):
        run_grid(grid, tmp_path / "grid", LocalBackend())
    assert not (tmp_path / "grid").exists()


def test_a_cell_whose_endpoint_is_away_is_open_and_goes_on(plain: Server, tmp_path: Path) -> None:
    grid = loaded("unused", models=[model(plain)], methods=["zero-shot-cot"], seeds=[0])
    plain.instead = lambda request: (503, {"error": {"message": "loading"}}) if len(plain.requests) > 2 else None
    result = run_grid(grid, tmp_path, LocalBackend())
    assert [state.state for _, state in result.cells] == ["begun"], "no cell has failed"
    plain.instead = lambda request: None
    assert run_grid(grid, tmp_path, LocalBackend()).complete


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "kind"),
    [("greater", "gradients"), ("greater-textual", "gradients"), ("autoprompt", "gradients"),
     ("pez", "prompt gradients")],
)  # fmt: skip
def test_a_method_that_needs_gradients_is_refused_in_one_sentence(
    method: str, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ["optimize", "--model", "openai/x", "--task", "bbh/navigate", "--data", "synthetic", "--method", method]
    assert run(args) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith(f"error: --method: '{method}' needs {kind}, which 'openai/x' cannot give; choose a method ")


def test_a_prompt_is_evaluated_on_an_endpoint_whatever_method_is_the_default(
    vllm: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ["evaluate", "--model", f"openai/{vllm.name}", "--task", "bbh/boolean_expressions", "--data", "synthetic",
            "--prompt", "Think.", "--train-size", "1", "--dev-size", "0", "--test-size", "2",
            "--max-reasoning-tokens", "4", "--set", f"model.endpoint.base_url={vllm.url}"]  # fmt: skip
    assert run(args) == 0
    assert "label loss  " in capsys.readouterr().out


def test_likelihoods_are_asked_for_only_where_they_are_told(plain: Server, vllm: Server) -> None:
    ape = {"method": "ape", "method_config": {"queries": 1, "samples_per_query": 1}}
    with pytest.raises(ConfigError, match=r"^method: 'ape' needs rollouts, which 'openai/tiny' cannot give"):
        run_config(config(plain, **ape))
    assert not plain.requests, "nothing was computed"
    assert run_config(config(vllm, **ape)).steps == 1
    with pytest.raises(ModelError, match=r"does not tell how likely choices are; set task.reading to generated"):
        run_config(config(plain, task={"reading": "likelihood"}))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"model": {"dtype": "float32"}}, r"^model.dtype: does not apply to the endpoint 'openai/tiny', not 'float32'"),
        ({"layout": {"thinking": False}}, r"^layout.thinking: 'openai/tiny': this endpoint is not known to pass"),
        ({"layout": {"chat_template_kwargs": {"a": 1}}}, r"^layout.chat_template_kwargs: 'openai/tiny': this endpoint"),
    ],
)
def test_settings_that_do_not_apply_are_named(plain: Server, changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run_config(config(plain, **{**changed, "model": {**model(plain), **changed.get("model", {})}}))


def test_a_model_that_the_server_does_not_have_is_told_with_those_that_it_has(vllm: Server, tmp_path: Path) -> None:
    settings = config(vllm)
    other = settings.model_copy(update={"model": settings.model.model_copy(update={"name": "openai/tinny"})})
    with pytest.raises(ModelError, match=r"^model.name: 'openai/tinny': this endpoint serves 'tiny'."):
        run_config(other, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("url", ["http://me:secret@host/v1", "http://host/v1?key=secret", "host/v1", "ftp://host"])
def test_an_address_with_a_secret_is_refused_and_not_shown(url: str, plain: Server) -> None:
    with pytest.raises(ConfigError) as error:
        resolve_config(
            {"model": {"name": "openai/x", "endpoint": {"base_url": url}}, "task": "bbh/navigate", "method": "gepa"}
        )
    assert str(error.value).startswith("model.endpoint.base_url: input should be http(s)://HOST[:PORT]/PATH without")
    assert "secret" not in str(error.value)


def test_an_endpoint_goes_with_an_endpoint(tiny_folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"^model.endpoint: goes with a model openai/NAME"):
        resolve_config(
            {
                "model": {"name": str(tiny_folder), "endpoint": {"concurrency": 2}},
                "task": {"name": "bbh/navigate", "data": "synthetic"},
                "method": "zero-shot-cot",
            }
        )


# -- identity and text -------------------------------------------------------------------------------------------------


def test_where_a_server_is_changes_no_identity_and_how_it_is_asked_does(plain: Server) -> None:
    here = config(plain)
    assert here.trial_id() == here.model_copy(update={"model": ModelConfig(name="openai/tiny")}).trial_id()
    turn = here.model_copy(update={"model": ModelConfig.model_validate(model(plain, answers="turn"))})
    assert turn.trial_id() != here.trial_id()


@pytest.mark.parametrize(
    "text",
    ["", " Think.", "\ud800x", "Let's think step by step.", "  two  blanks\n\nand lines\t",
     "Überprüfen Sie 你好 🙂🙂🙂🙂!", "antidisestablishmentarianism " * 3],
)  # fmt: skip
def test_pieces_give_the_text_again_and_are_numbers_that_json_keeps(text: str) -> None:
    ids = pieces(text)
    assert text_of(ids) == text
    assert all(0 <= number < 2**53 for number in ids)
    assert text_of(json.loads(json.dumps(ids))) == text


def test_tokens_of_a_vocabulary_are_not_taken_for_pieces() -> None:
    with pytest.raises(ModelError, match="prompt of another model's tokens cannot be shown to an endpoint"):
        text_of([523, 1998, 27])
