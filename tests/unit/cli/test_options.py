from pathlib import Path
from typing import get_args

import pytest

from greater_ray.cli._errors import Written, sentence
from greater_ray.cli._options import SETTINGS, Given, collect, read_prompt
from greater_ray.config import TrialConfig
from greater_ray.errors import ConfigError


def given(config: Path | None = None, assignments: tuple[str, ...] = (), **settings: object) -> Given:
    options = {f"--{name.replace('_', '-')}": value for name, value in settings.items()}
    return Given(options, config, list(assignments), False, False, False, Written())


def test_every_option_stands_for_a_key_of_the_config():
    for setting in SETTINGS:
        section: object = TrialConfig
        for part in setting.key.split("."):
            assert part in section.model_fields, setting
            section = section.model_fields[part].annotation
            # A section that may be left out.
            section = next((kind for kind in get_args(section) if hasattr(kind, "model_fields")), section)


def test_options_override_the_file_and_set_overrides_both(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("model: one\nseed: 1\nbudget: {steps: 1, patience: 7}\nmethod_config: {top_k: 4}\n")
    result = collect(given(file, ("seed=3", "method.top_k=9"), steps=2, seed=2, dtype="float32"))
    assert result == {
        "model": {"name": "one", "dtype": "float32"},
        "seed": 3,
        "budget": {"steps": 2, "patience": 7},
        "method_config": {"top_k": 9},
    }


def test_own_rows_need_no_task():
    assert collect(given(rows="mine.csv"))["task"] == {"rows": "mine.csv", "name": "rows"}
    assert collect(given(rows="mine.csv", task="gsm8k"))["task"]["name"] == "gsm8k"


def test_the_optimizer_model_may_be_written_short(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("optimizer_model: one\n")
    assert collect(given(file, ("optimizer_model.dtype=float32",))) == {
        "optimizer_model": {"name": "one", "dtype": "float32"}
    }
    assert collect(given(file, optimizer_model="two"))["optimizer_model"]["name"] == "two"


def test_limits_of_the_ledger_are_options():
    options = {"max_calls": 1, "max_generated_tokens": 2, "max_optimizer_calls": 3, "max_optimizer_tokens": 4}
    limits = {"calls": 1, "generated_tokens": 2, "optimizer_calls": 3, "optimizer_tokens": 4}
    assert collect(given(**options)) == {"budget": limits}


@pytest.mark.parametrize(
    "assignment", ["optimizer_model.name=3", "model.name=[1]", "method=3", "preset=[a]", "task.name={a: 1}"]
)
def test_a_name_must_be_text(assignment):
    with pytest.raises(ConfigError, match="must be a name"):
        collect(given(assignments=(assignment,)))


def test_the_prompt_comes_from_exactly_one_place(tmp_path):
    file = tmp_path / "prompt.txt"
    file.write_text(" Think well.\n")
    assert read_prompt(None, file) == " Think well."
    assert read_prompt("Think", None) == "Think"
    file.write_bytes(b"\xff\xfe")
    for prompt, path in ((None, None), ("a", file), ("  ", None), (None, file), (None, tmp_path / "none")):
        with pytest.raises(ConfigError) as raised:
            read_prompt(prompt, path)
        option = "--prompt-file" if path is not None and prompt is None else "--prompt"
        assert sentence(raised.value, Written()).startswith(f"{option}: ")
