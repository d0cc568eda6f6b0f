"""GPO's rows: taken as they are, told from others by the split rule; the same out of official files; and hub rows."""

import json
import random
import re
from pathlib import Path

import pytest

from greater_ray.assembly import resolve_config
from greater_ray.config import TaskConfig
from greater_ray.errors import ConfigError, DataError
from greater_ray.protocols import Task
from greater_ray.tasks import load_task
from greater_ray.tasks.gsm8k import gpo_indices
from greater_ray.types import Example
from tests.unit.tasks.conftest import OFFICIAL

GPO = OFFICIAL / "gpo"
SPLITS = ("train", "dev", "test")
FILES = {"train": "train", "dev": "eval", "test": "test"}
SIZES = {"mmlu/anatomy": (20, 20, 60), "wsc": (50, 50, 150), "webnlg": (100, 100, 300), "gsm8k": (100, 100, 300)}
PLACES = {
    "mmlu/anatomy": "mmlu/anatomy",
    "wsc": "WSC",
    "webnlg": "WebNLG",
    "gsm8k": "gsm8k",
    "bbh/snarks": "bbh/snarks",
}


def parts(task: Task) -> list[list[Example]]:
    return [task.train(), task.dev(), task.test()]


def made_row(name: str, k: int) -> dict[str, object]:
    if name == "webnlg":
        return {"input": f"Triples:\nA | b | C{k}", "output": [f"A has b C{k}.", f"C{k} is b of A."][: 1 + k % 2]}
    if name == "gsm8k":
        return {"input": f"Question {k}?", "solution": f"It is.\n#### {k:,}", "output": k}
    return {"input": f"Question {k}?\n(A) x\n(B) y", "output": f"({'AB'[k % 2]})"}


def write_gpo(folder: Path, name: str, sizes: tuple[int, int, int] = (4, 3, 5)) -> str:
    path, start = folder / PLACES[name], 0
    path.mkdir(parents=True)
    for split, size in zip(SPLITS, sizes, strict=True):
        rows = [made_row(name, k) for k in range(start, start + size)]
        (path / f"{FILES[split]}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        start += size
    return str(folder)


@pytest.mark.parametrize("name", PLACES)
def test_the_rows_of_three_files_are_taken_as_they_are(name: str, tmp_path: Path) -> None:
    task = load_task(TaskConfig(name=name, data=write_gpo(tmp_path, name), split="gpo"))
    assert tuple(map(len, parts(task))) == (4, 3, 5)
    found = [row for part in parts(task) for row in part]
    assert [row.question for row in found] == [str(made_row(name, k)["input"]) for k in range(12)]
    assert len({row.id for row in found}) == 12
    assert task.provenance["split_rule"] == "GPO's own train, eval and test rows as they are"
    assert all(task.score(row, "", row.label).score > 0 for row in found)
    if name == "webnlg":
        assert (found[1].label, found[1].references) == ("A has b C1.", ("C1 is b of A.",))


@pytest.mark.skipif(not GPO.is_dir(), reason="the rows of GPO's authors are not at hand")
@pytest.mark.parametrize("name", SIZES)
def test_the_real_rows_have_the_published_sizes(name: str) -> None:
    task = load_task(TaskConfig(name=name, data=str(GPO), split="gpo"))
    assert tuple(map(len, parts(task))) == SIZES[name]
    assert task.provenance["dropped"] == []
    if name == "gsm8k":
        official = load_task(TaskConfig(name=name, data=str(OFFICIAL), split="gpo"))
        assert parts(official) == parts(task)
        assert official.provenance["rows_sha256"] == task.provenance["rows_sha256"]


def test_gpo_rows_are_picked_out_of_the_official_gsm8k(data_folder: str) -> None:
    task = load_task(TaskConfig(name="gsm8k", data=data_folder, split="gpo"))
    for split, rows in zip(SPLITS, parts(task), strict=True):
        file = Path(data_folder) / "gsm8k" / f"{'test' if split == 'test' else 'train'}.jsonl"
        official = [json.loads(line)["question"].strip() for line in file.read_text(encoding="utf-8").splitlines()]
        assert [row.question for row in rows] == [official[i] for i in gpo_indices()[split]]
    assert not set(gpo_indices()["train"]) & set(gpo_indices()["dev"])


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("navigate", (48, 48, 144)),
        ("causal_judgement", (35, 35, 107)),
        ("snarks", (33, 33, 102)),
        ("penguins_in_a_table", (27, 27, 82)),
    ],
)
def test_as_many_rows_as_gpo_has_are_taken_by_position(
    name: str, sizes: tuple[int, int, int], data_folder: str
) -> None:
    task = load_task(TaskConfig(name=name, data=data_folder, split="gpo-sizes"))
    assert tuple(map(len, parts(task))) == sizes
    found = [int(row.id.rpartition("#")[2]) for part in parts(task) for row in part]
    assert found == list(range(sum(sizes)))
    assert "as many as in GPO" in task.provenance["split_rule"]


def test_a_row_that_moves_to_another_split_makes_other_rows(tmp_path: Path) -> None:
    hashes = set()
    for k, sizes in enumerate([(4, 3, 5), (4, 4, 4), (5, 3, 4)]):
        folder = write_gpo(tmp_path / str(k), "wsc", sizes)
        hashes.add(load_task(TaskConfig(name="wsc", data=folder)).provenance["rows_sha256"])
    assert len(hashes) == 3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"name": "wsc", "split": "gpo"},
            "GPO's own rows of 'wsc' are read from a folder with their files (task.data), not from 'hub'.",
        ),
        (
            {"name": "gsm8k", "split": "gpo-sizes"},
            "'gpo-sizes' is no split rule of 'gsm8k'; it knows gpo beside its own rule.",
        ),
        ({"name": "folio", "split": "gpo"}, "'gpo' is no split rule of 'folio'; it has one rule alone."),
        ({"name": "webnlg", "metric": "f1"}, "goes with rows of one's own (task.rows), not with 'webnlg'."),
    ],
)
def test_a_rule_without_its_rows_is_refused(settings: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_task(TaskConfig(**settings))
    assert str(error.value).endswith(message)


def test_missing_and_broken_files_are_told(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"holds no GPO rows of 'wsc' \(train.jsonl, eval.jsonl, test.jsonl in 'WSC' or"
    ):
        load_task(TaskConfig(name="wsc", data=str(tmp_path))).train()
    folder = write_gpo(tmp_path, "wsc")
    (tmp_path / "WSC" / "eval.jsonl").write_text('{"input": "q", "output": "(C)"}\n')
    with pytest.raises(DataError, match=r"eval.jsonl' holds no dev rows of 'wsc'"):
        load_task(TaskConfig(name="wsc", data=folder)).train()


def test_the_rule_is_part_of_a_trial_and_the_default_is_what_it_was() -> None:
    settings = {"model": "smollm2-135m", "task": {"name": "gsm8k"}}
    plain = resolve_config(settings)
    other = resolve_config({**settings, "task": {"name": "gsm8k", "split": "gpo"}})
    assert plain.trial_id() != other.trial_id()
    assert plain.decoding.max_answer_tokens == 10


def test_long_answers_have_room() -> None:
    settings = {"model": "smollm2-135m", "task": {"name": "webnlg", "data": "synthetic"}}
    assert resolve_config(settings).decoding.max_answer_tokens == 128
    assert resolve_config({**settings, "decoding": {"max_answer_tokens": 7}}).decoding.max_answer_tokens == 7


def lcs(first: list[str], second: list[str]) -> int:
    """Longest common subsequence by the textbook recursion."""
    table = [[0] * (len(second) + 1) for _ in range(len(first) + 1)]
    for i, a in enumerate(first):
        for j, b in enumerate(second):
            table[i + 1][j + 1] = table[i][j] + 1 if a == b else max(table[i][j + 1], table[i + 1][j])
    return table[-1][-1]


def rouge_l(text: str, reference: str) -> float:
    said, wanted = (re.findall(r"[a-z0-9]+", t.lower()) for t in (text, reference))
    common = lcs(said, wanted)
    return 2 * common / (len(said) + len(wanted)) if common else 0.0


def test_webnlg_scores_the_mean_of_rouge_l_over_the_references() -> None:
    task = load_task(TaskConfig(name="webnlg", data="synthetic"))
    assert task.metric == "rouge-l-mean"
    rng = random.Random(0)
    for row in task.test()[:40]:
        words = row.label.split()
        rng.shuffle(words)
        text = " ".join(words[: rng.randint(1, len(words))])
        golds = [row.label, *row.references]
        expected = sum(rouge_l(text, gold) for gold in golds) / len(golds)
        assert task.score(row, "", text).score == pytest.approx(expected)
        assert len(golds) == 2


# What the hub's data sets hold, as folders that `datasets` loads in place of them.
MMLU = [{"question": f"What is {k}?", "choices": [f"{k}", "x", "y", "z"], "answer": k % 4} for k in range(120)]
TWINS = [(f"A{k // 2}", f"B{k // 2}", k) for k in range(273)]
WSC = [{"text": f"{a} hit {b} as he was {k}.", "pronoun": "he", "options": [a, b], "label": k % 2} for a, b, k in TWINS]
WEBNLG = [{"input": [f"S{k} | p | O{k}"], "target": "t", "references": [f"S{k} has O{k}.", ""]} for k in range(400)]
CARD = "---\nconfigs:\n- config_name: {0}\n  data_files:\n  - split: test\n    path: {0}/test.parquet\n---\n"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    import pyarrow
    from pyarrow.parquet import write_table

    def write(rows: list[dict[str, object]], path: str) -> None:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        write_table(pyarrow.Table.from_pylist(rows), tmp_path / path)

    write(MMLU, "cais/mmlu/anatomy/test.parquet")
    write(WSC, "lighteval/winograd_wsc/wsc273/test.parquet")
    for split in ("validation", "test", "challenge_test_scramble"):
        write([{**row, "split": split} for row in WEBNLG], f"GEM/web_nlg/en/{split}/0000.parquet")
    for repository, config in (("cais/mmlu", "anatomy"), ("lighteval/winograd_wsc", "wsc273")):
        (tmp_path / repository / "README.md").write_text(CARD.format(config))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_hub_rows_get_the_form_of_gpos_files(hub: Path) -> None:
    train, dev, test = parts(load_task(TaskConfig(name="mmlu/anatomy")))
    assert tuple(map(len, (train, dev, test))) == SIZES["mmlu/anatomy"]
    assert train[1] == Example("mmlu/anatomy/train#1", "What is 1?\n(A) 1\n(B) x\n(C) y\n(D) z", "(B)", "B")
    assert test[-1].question.startswith("What is 99?")

    task = load_task(TaskConfig(name="wsc"))
    train, dev, test = parts(task)
    assert tuple(map(len, (train, dev, test))) == SIZES["wsc"]
    question = 'A0 hit B0 as he was 1. What does the pronoun "he" refer to?\n(A) A0\n(B) B0'
    assert train[1] == Example("wsc/train#1", question, "(B)", "B")
    pairs = [{row.question.split("\n", 1)[1] for row in part} for part in (train, dev, test)]
    assert sum(map(len, pairs)) == len(set().union(*pairs)), "twins stay in one split"

    task = load_task(TaskConfig(name="webnlg"))
    train, dev, test = parts(task)
    assert tuple(map(len, (train, dev, test))) == SIZES["webnlg"]
    assert len({row.question for row in train + dev}) == 200
    number = re.search(r"S(\d+)", train[0].question)[1]
    question = f"Write the following triples as fluent English text.\n\nTriples:\nS{number} | p | O{number}"
    assert (train[0].question, train[0].label, train[0].references) == (question, f"S{number} has O{number}.", ())
    assert task.provenance["files"]["test"]["revision"] == "refs/convert/parquet"
    assert parts(load_task(TaskConfig(name="webnlg", seed=1))) != [train, dev, test]
