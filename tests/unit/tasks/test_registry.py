"""Names, groups, extractors, and what importing costs."""

import pickle
import subprocess
import sys

import pytest

from greater_ray.config import TaskConfig
from greater_ray.errors import ConfigError
from greater_ray.protocols import Task
from greater_ray.tasks import available_tasks, expand, extractor, extractor_variants, load_task

NAMES = [info.name for info in available_tasks()]
# All subjects of MMLU are built the same way.
BUILT_IN = [name for name in NAMES if name != "rows" and (not name.startswith("mmlu/") or name == "mmlu/anatomy")]


def lazy(name: str, tmp_path) -> Task:
    """A task whose rows are never read."""
    return load_task(TaskConfig(name=name, data=str(tmp_path)))


def test_the_groups_have_the_sizes_of_the_benchmark_and_of_the_paper() -> None:
    assert len(expand("bbh")) == len(expand("bbh_cot_zeroshot")) == 27
    paper = expand("bbh-paper")
    assert len(paper) == 21
    assert not {"bbh/word_sorting", "bbh/dyck_languages", "bbh/tracking_shuffled_objects_three_objects"} & set(paper)
    assert len(expand("mmlu")) == len({*expand("mmlu")}) == 57
    fields = {name: len(expand(f"mmlu-{name}")) for name in ("stem", "humanities", "social-sciences", "other")}
    assert fields == {"stem": 19, "humanities": 13, "social-sciences": 12, "other": 13}
    assert set(expand("bbh")) | set(expand("mmlu")) | {"gsm8k", "folio", "wsc", "webnlg", "rows"} == set(NAMES)


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("navigate", "bbh/navigate"),
        ("bbh_cot_zeroshot_navigate", "bbh/navigate"),
        ("causal_judgment", "bbh/causal_judgement"),
        ("bbh/causal_judgment", "bbh/causal_judgement"),
        ("bbh_cot_zeroshot_causal_judgment", "bbh/causal_judgement"),
        ("gsm8k_cot_zeroshot", "gsm8k"),
        ("folio", "folio"),
        ("mmlu_anatomy", "mmlu/anatomy"),
        ("wsc273", "wsc"),
    ],
)
def test_other_names_mean_the_same_task(alias: str, name: str, tmp_path) -> None:
    assert expand(alias) == [name]
    assert lazy(alias, tmp_path).name == name


def test_an_unknown_task_is_answered_with_the_closest_name() -> None:
    for call in (expand, lambda name: load_task(TaskConfig(name=name))):
        with pytest.raises(ConfigError, match=r"task.name: 'bbh/navigat' is unknown.*Did you mean 'bbh/navigate'\?"):
            call("bbh/navigat")


def test_a_group_is_not_a_task() -> None:
    with pytest.raises(ConfigError, match=r"task.name: 'bbh-paper' is a group of 21 tasks"):
        load_task(TaskConfig(name="bbh-paper"))


def test_a_function_of_ones_own_may_build_the_task(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mytasks.py").write_text(
        "from greater_ray.tasks._forms import default_form\n"
        "from greater_ray.tasks._task import Loaded, RowTask\n"
        "def build(config):\n"
        "    return RowTask('mine', default_form('text'), lambda: Loaded((), (), (), {}))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert expand("mytasks:build") == ["mytasks:build"]
    assert load_task(TaskConfig(name="mytasks:build")).name == "mine"


@pytest.mark.parametrize("name", BUILT_IN)
def test_building_a_task_reads_no_rows_and_the_task_travels(name: str, tmp_path) -> None:
    task = pickle.loads(pickle.dumps(lazy(name, tmp_path)))
    info = next(info for info in available_tasks() if info.name == name)
    assert (task.name, task.answer_type) == (name, info.answer_type)


@pytest.mark.parametrize("name", BUILT_IN)
@pytest.mark.parametrize("variant", extractor_variants())
def test_every_task_has_every_extractor_and_no_text_ends_with_a_blank(name: str, variant: str, tmp_path) -> None:
    task = lazy(name, tmp_path)
    text, label_prefix, _ = extractor(task, variant)
    assert text == text.rstrip()
    assert text.startswith("Therefore, the final answer")
    assert "{" not in text
    assert label_prefix in ("", " ")
    if variant != "plain" and task.form.choices:
        assert all(f"{choice}'" in text for choice in task.form.choices)


@pytest.mark.parametrize(
    ("name", "variant", "label", "scored"),
    [
        ("bbh/snarks", "plain", "A", "Therefore, the final answer is (A"),
        ("bbh/navigate", "plain", "Yes", "Therefore, the final answer is Yes"),
        ("gsm8k", "plain", "12", "Therefore, the final answer is 12"),
        ("bbh/snarks", "dollar", "A", "Therefore, the final answer (use exact format: '$A' or '$B') is $A"),
        ("bbh/navigate", "dollar", "Yes", "Therefore, the final answer (use exact format: '$ Yes' or '$ No') is $ Yes"),
        (
            "bbh/object_counting",
            "dollar",
            "12",
            "Therefore, the final answer (use exactly this format: $NUMBER$, where NUMBER is a positive integer) "
            "is $12",
        ),
        ("bbh/snarks", "dollar-gemma", "A", "Therefore, the final answer (use exact format: '$ A' or '$ B') is $A"),
        (
            "bbh/multistep_arithmetic_two",
            "dollar-gemma",
            "-5",
            "Therefore, the final answer (use exactly this format: **NUMBER**, where NUMBER is a positive or negative "
            "integer) is **-5",
        ),
    ],
)
def test_the_label_follows_the_extractor_as_in_the_paper(
    name: str, variant: str, label: str, scored: str, tmp_path
) -> None:
    text, label_prefix, _ = extractor(lazy(name, tmp_path), variant)
    assert text + label_prefix + label == scored


def test_a_text_of_ones_own_is_an_extractor(tmp_path) -> None:
    assert extractor(lazy("gsm8k", tmp_path), "So it is ")[:2] == ("So it is", " ")


@pytest.mark.parametrize("variant", ["dolar", "  ", ""])
def test_an_unknown_extractor_is_refused(variant: str, tmp_path) -> None:
    with pytest.raises(ConfigError, match=r"task.extractor: .* allowed: dollar, dollar-gemma, plain"):
        extractor(lazy("gsm8k", tmp_path), variant)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"answer_type": "number"}, "task.answer_type: answers of 'bbh/snarks' are 'letter', not 'number'."),
        ({"rows": "mine.csv"}, "task.rows: 'mine.csv' goes with task.name rows, not with 'bbh/snarks'."),
        (
            {"split": "gpo"},
            "task.split: GPO's own rows of 'bbh/snarks' are read from a folder with their files (task.data), "
            "not from 'hub'. task.split gpo-sizes takes as many rows by position.",
        ),
        (
            {"data": "hup"},
            "task.data: 'hup' is neither 'hub' nor 'synthetic' nor an existing folder. Did you mean 'hub'?",
        ),
    ],
)
def test_a_setting_that_would_have_no_effect_is_refused(settings: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_task(TaskConfig(name="bbh/snarks", **settings))
    assert str(error.value) == message


def test_listing_and_building_tasks_imports_nothing_heavy() -> None:
    code = (
        "import sys; from greater_ray.config import TaskConfig; from greater_ray.tasks import _registry as r; "
        "r.load_task(TaskConfig(name='navigate', data='synthetic')).train(); r.available_tasks(); "
        "print([m for m in ('datasets', 'torch', 'pandas', 'transformers', 'ray', 'pyarrow') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
