"""A canary key in every place where a user can put one: it stands in no output, no file and no error text."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import constants

from greater_ray.cli.app import run
from greater_ray.config import ModelConfig
from greater_ray.errors import DataError, redacted
from greater_ray.grid.config import load_grid
from greater_ray.grid.run import LocalBackend, run_grid
from greater_ray.models.endpoint import EndpointEngine
from greater_ray.types import Usage
from greater_ray.work import Unit
from tests.grids import Breaking, Told, tiny_grid

KEY = "sk-Canary0123456789abcdef"
ENDPOINT = ("--model", "openai/m", "--task", "bbh/navigate", "--data", "synthetic", "--method", "fixed",
            "--set", "method.prompt= x")  # fmt: skip
# Variables that hold keys or passwords of what we use.
VARIABLES = (
    "OPENAI_API_KEY",
    "MY_KEY",
    "HF_TOKEN",
    "WANDB_API_KEY",
    "MLFLOW_TRACKING_PASSWORD",
    "AWS_SECRET_ACCESS_KEY",
)
WRONG_PLACES = {
    "as the name of its variable": ("--set", f"model.endpoint.api_key_env={KEY}"),
    "as a setting of its own": ("--set", f"model.endpoint.api_key={KEY}"),
    "as the endpoint": ("--set", f"model.endpoint={KEY}"),
    "as the address": ("--set", f"model.endpoint.base_url={KEY}"),
    "in the address, as a password": ("--set", f"model.endpoint.base_url=https://me:{KEY}@127.0.0.1:9/v1"),
    "in the address, as a user": ("--set", f"model.endpoint.base_url=https://{KEY}@127.0.0.1:9/v1"),
    "in the address, in a query": ("--set", f"model.endpoint.base_url=https://127.0.0.1:9/v1?key={KEY}"),
    "as a list": ("--set", f"model.endpoint.api_key_env=[{KEY}]"),
    "in a file": ("--config", "{file}"),
    "in a file that is no YAML": ("--config", "{broken}"),
}


class Leaking(Breaking):
    """Says its key where it fails."""

    def run(self, unit: Unit) -> tuple[Any, Usage]:
        raise RuntimeError(f"refused {os.environ['MY_KEY']}")


def leaking_model(config: ModelConfig) -> Leaking:
    return Leaking()


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """A place to run in; calling it returns what was printed, once it is sure that the key is nowhere."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))

    def check() -> str:
        out, err = capsys.readouterr()
        assert KEY not in out + err
        for file in tmp_path.rglob("*"):
            assert not file.is_file() or KEY.encode() not in file.read_bytes(), file
        return out + err

    return check


@pytest.mark.parametrize("place", WRONG_PLACES)
@pytest.mark.parametrize("debug", [False, True])
def test_a_key_in_the_wrong_place_is_refused_and_not_repeated(
    place: str, debug: bool, nowhere: Callable[[], str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    apart = tmp_path_factory.mktemp("settings")
    (apart / "file.yaml").write_text(yaml.safe_dump({"model": {"endpoint": {"api_key_env": KEY}}}))
    (apart / "broken.yaml").write_text(f"model: {{endpoint: {{api_key_env: [{KEY}\n")
    words = [word.format(file=apart / "file.yaml", broken=apart / "broken.yaml") for word in WRONG_PLACES[place]]
    assert run(["optimize", *ENDPOINT, *words, *(["--debug"] if debug else [])]) == 2
    assert "endpoint" in (told := nowhere()) or "YAML" in told


@pytest.mark.parametrize("name", VARIABLES)
def test_what_a_library_says_of_a_key_of_the_environment_is_redacted(
    name: str, nowhere: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, KEY)
    said = f"401 for https://me:hidden@host/v1 with {KEY}"
    error = DataError(said, setting="task.rows", value=1)
    for text in (str(error), error.why, str(pickle.loads(pickle.dumps(error)).why), redacted(said)):
        assert text.endswith("401 for https://***@host/v1 with ***")
    assert redacted("https://host/a@b me@host.org") == "https://host/a@b me@host.org"


def test_a_model_that_raises_with_a_key_leaves_it_in_no_failure_no_event_and_no_trace(
    nowhere: Callable[[], str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    told = Told()
    grid = load_grid(tiny_grid("tests.unit.test_keys:leaking_model", methods=["zero-shot-cot"], seeds=[0]))
    run_grid(grid, tmp_path / "out", LocalBackend(), observer=told)
    assert [reason for _, _, reason in told.ends] == ["internal error: RuntimeError: refused ***"]
    (failure,) = (tmp_path / "out" / "failures").iterdir()
    assert "refused ***" in failure.read_text()
    nowhere()


def test_a_password_in_the_address_of_the_hub_or_of_an_endpoint_is_in_no_error_text(
    nowhere: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"http://me:{KEY}@127.0.0.1:9/v1"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert run(["optimize", "--model", "nobody/nothing", *ENDPOINT[2:]]) == 1
    assert "'nobody/nothing' needs http://***@127.0.0.1:9/v1, which is not reachable" in nowhere()
    monkeypatch.setenv("OPENAI_BASE_URL", address)
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    assert run(["optimize", *ENDPOINT, "--set", "model.endpoint.retries=0", "--out", "out"]) == 1
    assert "the endpoint cannot be reached; check OPENAI_BASE_URL" in nowhere()


def test_a_key_is_on_no_command_line_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """An endpoint takes it from the environment, and its facts, which records hold, have no more than the host."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", f"https://me:{KEY}@models.example/v1/{KEY}")
    engine = EndpointEngine(ModelConfig.model_validate({"name": "openai/m"}))
    assert KEY not in str(engine.facts) + str(engine.hardware) + repr(engine.config)
    assert engine.facts["host"] == "models.example"
