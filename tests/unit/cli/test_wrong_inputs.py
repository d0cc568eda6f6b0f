"""Wrong inputs that once ended otherwise than in one sentence: a part of what ``benchmarks.fuzz`` tries."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks import fuzz, fuzz_cases, fuzz_places
from benchmarks.fuzz_shop import Case, Workshop

# By the kind of cases: those that were accepted, ended as an internal error, took too long or were too long to read.
FOUND = {
    "settings": {
        "an anchor in itself", "a tag that does not fit", "a day that is none", "a key twice", "a key twice, deeper",
        "brackets without end", "anchors that multiply", "budget: {seconds: .inf}", "budget: {steps: true}",
        "evaluation: {nearest: 3}",
    },
    "grids": {
        '{"methods": [{"name": "greater", "label": ""}]}', '{"seeds": [-1]}', '{"seeds": [true]}',
        '{"exclude": [{"method": {"a": 1}}]}', "{replicas: {prefix_memory_gib: .inf}}", "a key twice",
        f'{{"models": [{{"name": "{fuzz_places.SIMULATED}", "replicas": 3}}]}}',
        f'{{"models": [{{"name": "{fuzz_places.SIMULATED}", "replicas": {{"gpus": 2.5}}}}]}}',
    },
    "options": {
        "--question-column '-'", "--answer-column ''", "--metric ''", "--dev-rows ''", "--max-seconds 'inf'",
        "--method 'xxxxxxxxxxxxxxxxxxxx'", "--model 'xxxxxxxxxxxxxxxxxxxx'", "--model '../x'",
        f"--threads '{'9' * 20}'", "--set layout.date=2026-02-30", "--set seed=!!int x",
    },
    "commands": {
        "grid bbh-laptop --out DIR --wait inf", "grid bbh-laptop --out DIR --wait nan", "evaluate half a letter",
        "status " + "x" * 30, "export " + "x" * 30,
    },
    "rows": {"a link to itself", "a pipe that nobody writes"},
    "models": {
        "config: {'architectures': 3}", "the name math:pi", "the name :", "a template that fails", "weights: cut off",
        "--max-reasoning-tokens " + "9" * 30,
    },
}  # fmt: skip
MAKERS: dict[str, Callable[[Workshop], Iterator[Case]]] = {
    "settings": fuzz_cases.config_files,
    "grids": lambda shop: fuzz_cases.grid_files(shop, random.Random(0)),
    "options": fuzz_cases.values_of_options,
    "commands": fuzz_cases.other_commands,
    "rows": fuzz_places.rows,
    "models": fuzz_places.models,
}


@pytest.mark.parametrize("kind", FOUND)
def test_what_is_wrong_is_said_in_one_sentence(
    kind: str, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(Path(__file__).parents[3])
    shop = Workshop(tmp_path)
    shop.model = tiny_folder
    tried = {case.name: fuzz.tried(case)[:2] for case in MAKERS[kind](shop) if case.name in FOUND[kind]}
    assert tried.keys() == FOUND[kind]
    assert {name: how for name, how in tried.items() if how[0] is not None} == {}


def test_the_fuzz_sees_what_is_wrong(tmp_path: Path):
    case = Case("kind", "name", [], left=tmp_path)
    assert fuzz.fault(case, 2, "", "error: one.\n") is None
    assert fuzz.fault(case, None, "", "") == "took too long"
    assert fuzz.fault(case, 0, "done", "") == "accepted"
    assert fuzz.fault(case, 1, "", "error: one.\n") == "exit 1, not 2"
    assert fuzz.fault(case, 1, "", "internal error: KeyError: 3\n") == "internal error"
    assert fuzz.fault(case, 2, "", "Traceback (most recent call last):\n") == "traceback"
    assert fuzz.fault(case, 2, "", "error: one.\nerror: two.\n") == "2 sentences"
    (tmp_path / "config.json").touch()
    assert fuzz.fault(case, 2, "", "error: one.\n") == "left files behind"
