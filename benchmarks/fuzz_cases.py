"""The wrong inputs of ``benchmarks.fuzz`` that are written: options, their values, and files of settings."""

import json
import random
import string
from collections.abc import Iterator

from benchmarks import fuzz_places
from benchmarks.fuzz_shop import EITHER, LONG, SIMULATED, Case, Workshop


def cases(shop: Workshop, seed: int) -> Iterator[Case]:
    """Make all cases, one after another; the seed decides how words are misspelt."""
    rng = random.Random(seed)
    yield from misspelt_options(shop, rng)
    yield from values_of_options(shop)
    yield from other_commands(shop)
    yield from config_files(shop)
    yield from grid_files(shop, rng)
    yield from fuzz_places.rows(shop)
    yield from fuzz_places.models(shop)
    yield from fuzz_places.folders(shop)
    yield from fuzz_places.environments(shop)


def misspelt(word: str, rng: random.Random) -> str:
    """Return a word with one letter gone, doubled, exchanged or wrong."""
    body = word.lstrip("-")
    dashes, k = word[: len(word) - len(body)], rng.randrange(1, max(2, len(body) - 1))
    other = rng.choice([c for c in string.ascii_lowercase if c != body[k : k + 1]])
    ways = [body[:k] + body[k + 1 :], body[:k] + other + body[k:], body[:k] + other + body[k + 1 :]]
    return dashes + rng.choice(ways)


# -- options -----------------------------------------------------------------------------------------------------------

WHOLE = ["-1", "0.5", "nan", "inf", "", "many", "1e3", "9" * 30]
REAL = ["-1", "nan", "inf", "-inf", "", "1,5", "1e400"]
NAMES = ["", " ", "../x", "Navigaté", LONG, "a\nb", "-"]
PATHS = ["", "/nowhere/at/all", "/", "/etc", "/dev/null", LONG, "http://x", "\u202e.jsonl"]
# What goes with rows of one's own alone.
COLUMNS = ("--question-column", "--answer-column", "--id-column", "--split-column", "--choices-column")
# Any number is right there that can be counted to, and any text.
COUNTS = ("--steps", "--patience", "--train-size", "--max-tokens", "--max-calls", "--max-generated-tokens",
          "--max-optimizer-calls", "--max-optimizer-tokens", "--shard-size", "--max-reasoning-tokens",
          "--seed")  # fmt: skip
FREE = ("--system", "--thinking")


def misspelt_options(shop: Workshop, rng: random.Random) -> Iterator[Case]:
    """Options and commands that are none."""
    from greater_ray.cli._options import SETTINGS

    for setting in SETTINGS:
        yield shop.case("misspelt option", setting.option, misspelt(setting.option, rng), "1")
    for option in ("--task", "--steps", "--method", "--config", "--set", "--out"):
        yield shop.case("misspelt option", f"{option} without a value", option)
    yield shop.case("misspelt option", "words that belong nowhere", "bbh/navigate", process=True)
    for command in ("optimise", "run", "--verbose", "grid-status"):
        yield Case("misspelt option", f"command {command}", [command, "x"], process=command == "optimise")


def values_of_options(shop: Workshop) -> Iterator[Case]:
    """What no option can have for a value."""
    from greater_ray.cli._options import SETTINGS

    kind = "value of an option"
    for setting in SETTINGS:
        values = NAMES
        if setting.type in (int, float):
            values = WHOLE if setting.type is int else REAL
        elif setting.option.endswith("rows") or setting.option == "--data":
            values = PATHS
        elif setting.option in FREE:
            continue
        # A model that waits ignores how a model is held.
        model = ["--model", str(shop.model)] if setting.panel == "Model" and setting.option != "--model" else []
        for value in values:
            if not (setting.option in COUNTS and value == "9" * 30):
                yield shop.case(kind, f"{setting.option} {value[:20]!r}", *model, setting.option, value)
    for text in (
        "x", "=3", "a..b=1", "budget=4", "budget.steps=[1]", "budget.steps={a: 1}", "budget.steps=yes",
        "method.top_k=0",
        "method.topk=3", "method_config=3", "seed=1.5", "seed=[", "task=[]", "model.endpoint.timeout=nan",
        "layout.date=yesterday", "layout.date=2026-02-30", "evaluation.splits=[tets]", "evaluation.demonstrations=-1",
        "evaluation.demonstrations=[{question: x}]", "layout.chat_template_kwargs=[1]", "shard_size=2026-13-45",
        "seed=" + "[" * 2000, "layout.joint=7", "decoding.max_answer_tokens=.inf", "a.b.c.d=1", "model.weights=yes",
        "budget.tokens.more=1", "é=1", "method_config.top_k=!!python/object/apply:os.getcwd []", "seed=!!int x",
    ):  # fmt: skip
        yield shop.case(kind, f"--set {text[:40]}", "--set", text)


def other_commands(shop: Workshop) -> Iterator[Case]:
    """Arguments of the commands that run nothing."""
    kind, none = "other commands", str(shop.path())
    empty = shop.path("-empty")
    empty.mkdir()
    for name, *args in (
        ("evaluate an empty prompt", "--prompt", ""),
        ("evaluate blanks", "--prompt", " \t"),
        ("evaluate a split", "--split", "tset"),
        ("evaluate a missing file", "--prompt-file", none),
        ("evaluate a prompt in a folder", "--prompt-file", "/etc"),
        ("evaluate a cell of nothing", "--cell", "method=greater"),
        ("evaluate half a letter", "--prompt", "\ud800"),
    ):
        yield shop.case(kind, name, *args, command="evaluate")
    for args in (
        ["export", none], ["export", str(empty)], ["export", "/etc/hostname"], ["export", ""], ["export", LONG],
        ["export", none, "--format", "yaml"], ["report", none], ["report", str(empty)], ["report", "/etc/hostname"],
        ["status", none], ["status", str(empty)], ["status", "/etc/hostname"], ["status", LONG],
        ["import", none], ["import", str(empty)], ["import", shop.file(b"\xff\xfe\0\0", ".txt")],
        ["import", shop.file("", ".json")], ["import", shop.file("[1, 2", ".json")], ["import", shop.file("[[]]",
        ".json")],
        ["import", shop.file("[" * 100_000, ".json")], ["import", shop.file("3", ".json")],
        ["import", shop.file('{"a": NaN}', ".json")], ["import", shop.file("prompts: 2026-13-45", ".yaml")],
        ["list", "metods"], ["list"], ["schema", "grids"], ["schema", "grid", "--to", "/nowhere/x.json"],
        ["transfer", none, "--to", SIMULATED], ["transfer", str(empty), "--to", SIMULATED],
        ["paper", "run", "table99", "--out", none], ["paper", "run", "table3", "--out", none, "--scale", "huge"],
        ["paper", "list", "x"], ["paper", "show", "table3", "--out", "/etc/hostname"],
        ["grid", "bbh-laptob", "--out", none], ["grid", none + ".yaml", "--out", none], ["grid", "", "--out", none],
        ["grid", LONG, "--out", none], ["grid", "bbh-laptop"], ["grid", "bbh-laptop", "--out", none, "--replicas",
        "-1"],
        ["grid", "bbh-laptop", "--out", none, "--replicas", "two"], ["grid", "bbh-laptop", "--out", none, "--wait",
        "nan"],
        ["grid", "bbh-laptop", "--out", none, "--wait", "inf"], ["grid", "bbh-laptop", "--out", none, "--only",
        "tsk=x"],
        ["grid", "bbh-laptop", "--out", none, "--only", "task=nothing", "--plan", "--no-probe"],
        ["grid", "bbh-laptop", "--out", none, "--only", "task"], ["grid", "bbh-laptop", "--out", none, "--tracker",
        "w"],
        ["grid", "bbh-laptop", "--out", none, "--concurrency", "0"],
        ["grid", "bbh-laptop", "--out", none, "--replicas", "0", "--address", "auto"],
        ["grid", "bbh-laptop", "--out", none, "--set", "setings.budget.steps=1"],
    ):  # fmt: skip
        name = " ".join("DIR" if word == none else word[-30:] for word in args)
        yield Case(kind, name, args, code=EITHER)


# -- files of settings -------------------------------------------------------------------------------------------------

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join(['*' + a] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)
BROKEN: dict[str, str | bytes] = {
    "empty": "",
    "only a comment": "# nothing\n",
    "a list": "- seed: 1\n",
    "a number": "3\n",
    "a text": "seed\n",
    "null": "~\n",
    "tabs": "budget:\n\tsteps: 1\n",
    "an open bracket": "seeds: [0, 1\n",
    "an open quote": "name: 'x\n",
    "two documents": "seed: 1\n---\nseed: 2\n",
    "a NUL byte": b"seed: 1\0\n",
    "UTF-16": "seed: 1\n".encode("utf-16"),
    "Latin-1": "name: caf\xe9\n".encode("latin-1"),
    "an unknown anchor": "seed: *one\n",
    "an anchor in itself": "budget: &b {steps: *b}\n",
    "a tag of Python": "seed: !!python/object/apply:os.getcwd []\n",
    "a tag that does not fit": "seed: !!int x\n",
    "a day that is none": "seed: 2026-13-45\n",
    "a key twice": "shard_size: 1\nshard_size: 2\n",
    "a key twice, deeper": "budget:\n  steps: 1\n  steps: 2\n",
    "a key that is a list": "[a, b]: 1\n",
    "a key that is a mapping": "{a: 1}: 1\n",
    "a key that is a number": "1: 1\n",
    "a key that is null": "~: 1\n",
    "brackets without end": "[\n" * 2_000,
    "anchors that multiply": BOMB,
    "JSON, cut off": '{"budget": {"steps"',
    "a key without a colon": "budget\n  steps 1\n",
}


def config_files(shop: Workshop) -> Iterator[Case]:
    """Files for ``--config`` that are broken, or hold what is wrong."""
    kind = "settings in a file"
    for name, content in BROKEN.items():
        yield shop.case(kind, name, "--config", shop.file(content, ".yaml"))
    for path in ("", "/nowhere.yaml", "/etc", "/dev/null", LONG):
        yield shop.case(kind, f"the path {path[:20]!r}", "--config", path)
    for text in (
        "budgett: {steps: 1}", "budget: 3", "budget: [1]", "budget: {steps: one}", "budget: {steps: -1}",
        "budget: {seconds: .nan}", "budget: {seconds: .inf}", "budget: {steps: 1.5}", "budget: {steps: true}",
        "seed: -3", "seed: 1.5e3", "seed: [1]", "seed: 2026-01-01", "shard_size: 0", "method: 3",
        "method: [greater]", "method: greatr", "method_config: [1]", "method_config: {topk: 1}",
        "method_config: {top_k: a}", "method_config: {1: 2}", "layout: system", "layout: {placement: nowhere}",
        "layout: {placement: '{question}{question}{prompt}'}", "layout: {date: 20260101}", "decoding: {}\nmodells: x",
        "evaluation: {splits: all}", "evaluation: {splits: [0]}", "evaluation: {demonstrations: true}",
        "evaluation: {nearest: 3}", "optimizer_model: [x]", "optimizer_model: {name: 3}",
        "preset: papr", "task: {tolerance: 2}", "task: {tolerance: .nan}", "task: {seed: x}", "task: {split: mine}",
        "task: {choices: 7}", "task: {choices: [[a]]}", "model: {endpoint: {timeout: 0}}", "model: {endpoint: 3}",
        "model: {endpoint: {base_url: ftp://x}}", "model: {endpoint: {api_key_env: 'a b'}}", "model: {threads: 1.5}",
    ):  # fmt: skip
        name = text.replace("\n", ", ")
        yield shop.case(kind, name, "--config", shop.file(text + "\n", ".yaml"))


def grid_files(shop: Workshop, rng: random.Random) -> Iterator[Case]:
    """Files of grids, likewise."""
    kind = "file of a grid"
    right = {"methods": ["zero-shot-cot"], "tasks": ["bbh/navigate"], "models": [SIMULATED], "seeds": [0]}
    settings = {"task": {"data": "synthetic", "test_size": 2, "train_size": 2, "dev_size": 0}, "shard_size": 2}

    def case(name: str, content: str | bytes, *options: str) -> Case:
        out = shop.path("-out")
        args = ["grid", shop.file(content, ".yaml"), "--out", str(out), "--replicas", "0", *options]
        return Case(kind, name, args, left=out)

    for name, content in BROKEN.items():
        yield case(name, content)
    for key in ("methods", "tasks", "models", "seeds", "settings", "replicas", "transfer", "concurrency"):
        grid = {**right, "settings": settings}
        yield case(f"misspelt {key}", json.dumps({**grid, misspelt(key, rng): grid.get(key)}))
    for changes in (
        {"methods": []}, {"methods": None}, {"methods": 3}, {"methods": [3]}, {"methods": [[]]}, {"methods": [{}]},
        {"methods": [{"name": ""}]}, {"methods": ["greatr"]}, {"methods": ["a", "a"]},
        {"methods": [{"name": "greater", "steps": 3}]}, {"methods": [{"name": "greater", "budget": 3}]},
        {"methods": [{"name": "greater", "label": [3]}]}, {"methods": [{"name": "greater", "label": ""}]},
        {"tasks": []}, {"tasks": "bbh/navigat"}, {"tasks": {"name": "bbh/navigate"}}, {"tasks": [None]},
        {"tasks": ["bbh/*"]}, {"tasks": [{"name": "bbh/navigate", "train_size": "x"}]}, {"models": []},
        {"models": [""]}, {"models": [{"name": SIMULATED, "dtype": "int8"}]},
        {"models": [{"name": SIMULATED, "replicas": 3}]}, {"models": [{"name": SIMULATED, "replicas": {"gpus": 2.5}}]},
        {"seeds": []}, {"seeds": [-1]}, {"seeds": ["a"]}, {"seeds": [0.5]},
        {"seeds": 3}, {"seeds": [True]}, {"settings": [1]}, {"settings": "x"}, {"settings": {"sed": 1}},
        {"settings": {"seed": 1}}, {"settings": {"budget": 3}}, {"settings": {"task": []}}, {"settings": {"model": 3}},
        {"include": 3}, {"include": [3]}, {"include": [{"method": ["greater"]}]}, {"exclude": 3}, {"exclude": [3]},
        {"exclude": [{"metod": "x"}]}, {"exclude": [{}]}, {"exclude": [{"method": {"a": 1}}]}, {"concurrency": 0},
        {"concurrency": "x"}, {"replicas": 3}, {"replicas": {"count": 0}}, {"replicas": {"gpus": -1}},
        {"replicas": {"patience": 0}}, {"replicas": {"prefix_memory_gib": "x"}}, {"transfer": ["x"]},
        {"transfer": {"models": [3]}}, {"transfer": {"models": [SIMULATED], "splits": ["x"]}}, {"name": 3},
        {"name": []},
    ):  # fmt: skip
        yield case(json.dumps(changes), json.dumps({**right, "settings": settings, **changes}))
    for infinite in ("{replicas: {prefix_memory_gib: .inf}}", "{replicas: {patience: .nan}}", "{seeds: [.inf]}"):
        yield case(infinite, json.dumps({**right, "settings": settings})[:-1] + ", " + infinite[1:])
