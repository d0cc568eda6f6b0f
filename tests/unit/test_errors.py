"""Errors carry what they mean, and every face says it in its own words."""

import ast
import pickle
from pathlib import Path

import pytest

from greater_ray import optimize
from greater_ray.cli._errors import Written, sentence
from greater_ray.cli.app import run
from greater_ray.errors import ConfigError, DataError, GreaterRayError, Place, SetAsideError, unknown_name
from greater_ray.settings import line_in_yaml

PACKAGE = Path(__file__).parents[2] / "greater_ray"


def test_an_error_knows_setting_value_allowed_and_place():
    error = unknown_name("task.name", "bbh/navigat", ["bbh/navigate", "gsm8k"])
    assert (error.setting, error.value, error.allowed) == ("task.name", "bbh/navigat", ("bbh/navigate", "gsm8k"))
    assert str(error) == (
        "task.name: 'bbh/navigat' is unknown; allowed: bbh/navigate, gsm8k. Did you mean 'bbh/navigate'?"
    )
    row = DataError("not valid JSON.", setting="task.rows", place=Place("mine.jsonl", 3))
    assert str(row) == "task.rows: 'mine.jsonl', line 3: not valid JSON."
    assert str(ConfigError("give §budget.steps or §budget.tokens.")) == "give budget.steps or budget.tokens."


@pytest.mark.parametrize("kind", [ConfigError, DataError, SetAsideError, GreaterRayError])
def test_an_error_crosses_processes_whole(kind: type[GreaterRayError]):
    error = kind("too long.", setting="prompt", value="x", allowed=("a", "b"), place=Place("f.yaml", 7))
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert str(again) == str(error) == "prompt: 'f.yaml', line 7: too long."
    assert (again.setting, again.value, again.allowed, again.place) == ("prompt", "x", ("a", "b"), Place("f.yaml", 7))


def test_the_command_line_names_what_the_user_wrote(tmp_path: Path):
    file = tmp_path / "run.yaml"
    file.write_text("model: one\nbudget:\n  # a comment\n  steps: -1\n")
    error = ConfigError("too small; see §task.data.", setting="budget.steps")
    names = {"budget.steps": "--steps", "task.data": "--data", "model.name": "--model"}
    assert sentence(error, Written(names=names)) == "--steps: too small; see --data."
    assert sentence(error, Written(file, names=names)) == f"'{file}', line 4: budget.steps: too small; see --data."
    given = Written(file, options=frozenset(["--steps"]), names=names)
    assert sentence(error, given) == "--steps: too small; see --data."
    given = Written(file, names=names, assignments=frozenset(["budget.steps"]))
    assert sentence(error, given) == "--set budget.steps: too small; see --data."
    assert sentence(ConfigError("bad.", setting="model.name"), Written(file, names=names)).startswith(
        f"'{file}', line 1"
    )
    assert sentence(ConfigError("bad.", setting="seed"), Written(file)) == "seed: bad.", "not in the file"


def test_the_line_of_a_key_is_that_of_the_nearest_key_above_it(tmp_path: Path):
    file = tmp_path / "grid.yaml"
    file.write_text("name: g\nmodels:\n- one\n- name: two\n  dtype: x\nsettings: {budget: {steps: 1}}\n")
    assert line_in_yaml(file, "models.1.dtype") == 5
    assert line_in_yaml(file, "models.0") == 3
    assert line_in_yaml(file, "settings.budget.patience") == 6
    assert line_in_yaml(file, "tasks") is None


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("methods: [greater]\ntasks: [bbh/navigate]\nmodels: [m]\nconcurency: 2\n", 4),
        ("methods: [greater]\ntasks: [bbh/navigate]\nmodels: [m]\nsettings:\n  budget:\n    stepz: 2\n", 6),
        ("methods: [greater]\ntasks:\n- bbh/navigat\nmodels: [m]\n", 3),
        ("methods:\n- greater\n- greter\ntasks: [bbh/navigate]\nmodels: [m]\n", 3),
        ("methods:\n- name: greater\n  method_config: {topk: 3}\ntasks: [bbh/navigate]\nmodels: [m]\n", 3),
        ("methods: [greater]\ntasks:\n- name: bbh/navigate\n  test_size: few\nmodels: [m]\n", 4),
        ("methods: [greater]\ntasks: [bbh/navigate]\nmodels:\n- {name: m}\n- {name: m, replicas: 2}\n", 5),
        ("methods: [greater]\ntasks: [bbh/navigate]\nmodels:\n- {label: m}\n", 4),
        ("methods: [greater]\ntasks: [bbh/navigate]\nmodels: [m]\nsettings:\n  seed: 3\n", 5),
        ("methods: [greater]\ntasks: [bbh/navigate]\nmodels: [m]\nexclude:\n- {method: {a: 1}}\n", 5),
        ("methods: []\ninclude:\n- methods: [greater]\n  tasks:\n  - bbh/navigat\n  models: [m]\n", 5),
        ("methods: [greater\n", 2),
    ],
)
def test_a_grid_file_is_blamed_by_its_line(
    text: str, line: int | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    file = tmp_path / "grid.yaml"
    file.write_text(text)
    assert run(["grid", str(file), "--out", str(tmp_path / "out"), "--plan", "--no-probe"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert (f"'{file}', line {line}" in error) == (line is not None), error


def test_python_users_read_nothing_of_flags():
    for settings in (
        {"model": "smollm2-135m", "task": "bbh/navigat"},
        {"model": "smollm2-135", "task": "bbh/navigate", "data": "synthetic", "steps": 1},
        {"model": "smollm2-135m", "task": "bbh/navigate", "data": "nowhere"},
        {"model": "smollm2-135m", "task": "gsm8k", "data": "synthetic"},
        {"model": "smollm2-135m", "task": "bbh/navigate", "method": "greter"},
        {"model": "smollm2-135m", "task": "bbh/navigate", "preset": "papr"},
        {"model": "smollm2-135m", "task": {"name": "rows"}},
        {"model": "", "task": "bbh/navigate"},
        {"model": "openai/x", "task": "bbh/navigate"},
        {"model": "smollm2-135m", "task": "bbh/navigate", "budget": {"steps": None}},
    ):
        with pytest.raises(GreaterRayError) as error:
            optimize(**settings)
        assert "--" not in str(error.value)
        assert "§" not in str(error.value)
        assert error.value.setting, str(error.value)


def test_only_the_command_line_speaks_of_flags():
    found = []
    for file in PACKAGE.rglob("*.py"):
        if file.is_relative_to(PACKAGE / "cli"):
            continue
        tree = ast.parse(file.read_text(encoding="utf-8"))
        raised = [node for node in ast.walk(tree) if isinstance(node, ast.Raise)]
        for node in (inner for outer in raised for inner in ast.walk(outer)):
            text = node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
            if "--" in text or "greater-ray " in text:
                found.append(f"{file.relative_to(PACKAGE)}:{node.lineno}: {node.value}")
    assert not found


def test_what_is_wrong_with_settings_and_folders_has_a_setting_or_a_place():
    found = []
    for file in PACKAGE.rglob("*.py"):
        # The command line speaks of options, which are no fields.
        if file.is_relative_to(PACKAGE / "cli"):
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or getattr(node.func, "id", "") not in ("ConfigError", "StoreError"):
                continue
            if not {"setting", "place"} & {keyword.arg for keyword in node.keywords}:
                found.append(f"{file.relative_to(PACKAGE)}:{node.lineno}")
    assert not found


def not_an_engine(config: object) -> object:
    """Stand for a model of one's own that is none."""
    return object()


def test_a_model_of_ones_own_that_is_none_is_refused_by_name():
    settings = {"model": f"{__name__}:not_an_engine", "task": "bbh/navigate", "data": "synthetic", "steps": 1}
    with pytest.raises(ConfigError, match=r"gives a object; a model derives from greater_ray\.work\.BaseEngine"):
        optimize(**settings)
