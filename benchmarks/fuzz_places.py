"""The wrong inputs of ``benchmarks.fuzz`` that lie around a run: rows, models, output folders and environments."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from benchmarks.fuzz_shop import EITHER, LONG, SIMULATED, Case, Workshop

# -- rows --------------------------------------------------------------------------------------------------------------

ROWS = "".join(f'{{"question": "{a} + 1?", "answer": "{a + 1}"}}\n' for a in range(8))
CSV = "question,answer\n" + "".join(f"{a} + 1?,{a + 1}\n" for a in range(8))


def rows(shop: Workshop) -> Iterator[Case]:
    """Files of rows that are broken, and options that do not fit them."""
    kind = "rows"
    several = ["--answer-type", "number", "--train-size", "2", "--dev-size", "2", "--test-size", "2"]
    files: dict[str, tuple[str | bytes, str]] = {
        "empty": ("", ".jsonl"), "empty CSV": ("", ".csv"), "only a head": ("question,answer\n", ".csv"),
        "one row": (ROWS.splitlines()[0], ".jsonl"), "blank lines": ("\n\n\n", ".jsonl"),
        "NUL bytes": (b"\0" * 99, ".jsonl"),
        "NUL in CSV": (CSV.replace("3 + 1", "3\0+ 1"), ".csv"), "UTF-16": (ROWS.encode("utf-16"), ".jsonl"),
        "UTF-16 CSV": (CSV.encode("utf-16"), ".csv"), "Latin-1": ((CSV + "\xe9?,3\n").encode("latin-1"), ".csv"),
        "a line cut off": (ROWS[:-9], ".jsonl"), "a list of rows": (json.dumps([1, 2]), ".jsonl"),
        "numbers": ("1\n2\n3\n", ".jsonl"), "lists": ("[1]\n[2]\n", ".jsonl"), "nulls": ("null\n" * 5, ".jsonl"),
        "no answers": (ROWS.replace("answer", "reply"), ".jsonl"), "no questions": (ROWS.replace("question", "q"),
        ".jsonl"),
        "an answer is missing": (ROWS + '{"question": "x"}\n', ".jsonl"),
        "an answer is null": (ROWS + '{"question": "x", "answer": null}\n', ".jsonl"),
        "an answer is empty": (ROWS + '{"question": "x", "answer": ""}\n', ".jsonl"),
        "a question is empty": (ROWS + '{"question": " ", "answer": "1"}\n', ".jsonl"),
        "an answer is a mapping": (ROWS + '{"question": "x", "answer": {"a": 1}}\n', ".jsonl"),
        "an answer is NaN": (ROWS + '{"question": "x", "answer": NaN}\n', ".jsonl"),
        "an answer is infinite": (ROWS + '{"question": "x", "answer": Infinity}\n', ".jsonl"),
        "an answer is no number": (ROWS + '{"question": "x", "answer": "many"}\n', ".jsonl"),
        "a question is a list": (ROWS + '{"question": ["x"], "answer": "1"}\n', ".jsonl"),
        "a key twice": (ROWS + '{"question": "x", "answer": "1", "answer": "2"}\n', ".jsonl"),
        "half a letter": (ROWS + '{"question": "\\ud800", "answer": "1"}\n', ".jsonl"),
        "brackets without end": ("[" * 100_000, ".jsonl"), "ragged, long": (CSV + "x,1,2\n", ".csv"),
        "ragged, short": (CSV + "x\n", ".csv"), "an open quote": (CSV + '"x,1\n', ".csv"),
        "the same column twice": (CSV.replace("question,", "answer,", 1), ".csv"), "semicolons": (CSV.replace(",",
        ";"), ".csv"),
        "no head": ("\n".join(CSV.splitlines()[1:]), ".csv"), "tabs are commas": (CSV, ".tsv"),
        "not Parquet": (ROWS, ".parquet"), "Parquet, cut off": (b"PAR1" + b"\0" * 40, ".parquet"),
        "JSON": (ROWS, ".json"),
        "YAML": (ROWS, ".yaml"), "no ending": (ROWS, ""), "not an archive": (ROWS, ".eval"),
        "Excel": (b"PK\3\4" + b"\0" * 99, ".xlsx"),
        "zipped": (b"\x1f\x8b" + b"\0" * 99, ".jsonl.gz"),
        "a line of 20 MB": ('{"question": "' + "x" * 20_000_000, ".jsonl"),
    }  # fmt: skip
    for name, (content, ending) in files.items():
        yield shop.case(kind, name, "--rows", shop.file(content, ending), *several)
    good = shop.file(ROWS, ".jsonl")
    for name, *options in (
        ("more than there are", "--train-size", "100"), ("a column that is not there", "--question-column", "questoin"),
        ("an answer's column that is not there", "--answer-column", "gold"), ("ids that are not there",
        "--id-column", "id"),
        ("a template of nothing", "--question-template", "x"), ("a template of no column", "--question-template",
        "{titel}"),
        ("a template left open", "--question-template", "{question"), ("jinja2, open", "--question-template",
        "{% if %}"),
        ("jinja2, a loop", "--question-template", "{% for a in range(10**9) %}{{ question }}{% endfor %}"),
        ("another type", "--answer-type", "letter"), ("another type", "--answer-type", "yes-no"),
        ("choices of none", "--answer-type", "choice", "--choices", ""), ("one choice", "--answer-type", "choice",
        "--choices", "A"),
        ("choices twice", "--answer-type", "choice", "--choices", "A,A"), ("a metric of nowhere", "--metric", "blue"),
        ("a metric's module", "--metric", "nowhere:score"), ("a metric's name", "--metric", "json:nothing"),
        ("a metric that is no function", "--metric", "math:pi"), ("likelihood of numbers", "--reading", "likelihood"),
        ("the same file for test", "--test-rows", good), ("a test file that is not there", "--test-rows",
        "/nowhere.csv"),
        ("synthetic beside rows", "--data", "synthetic"), ("a split's column", "--split-column", "answer"),
        ("a revision of a file", "--rows-revision", "main"), ("a split of a file", "--rows-split", "test"),
        ("tolerance below 0", "--tolerance", "-0.1"), ("an empty extractor", "--extractor", ""),
    ):  # fmt: skip
        yield shop.case(kind, name, "--rows", good, *several, *options)
    for path in ("hub:", "hub:/", "hub:a/b/c", "hub:../x", "hub:nobody/nothing", ".", "x.jsonl/", "~nobody/x.jsonl"):
        yield shop.case(kind, f"rows of {path}", "--rows", path, *several)
    secret = Path(shop.file(ROWS, ".jsonl"))
    secret.chmod(0)
    if not os.access(secret, os.R_OK):
        yield shop.case(kind, "a file that may not be read", "--rows", str(secret), *several)
    loop = shop.path(".jsonl")
    loop.symlink_to(loop)
    yield shop.case(kind, "a link to itself", "--rows", str(loop), *several)
    fifo = shop.path(".jsonl")
    os.mkfifo(fifo)
    yield shop.case(kind, "a pipe that nobody writes", "--rows", str(fifo), *several)


# -- models ------------------------------------------------------------------------------------------------------------


def models(shop: Workshop) -> Iterator[Case]:
    """Folders of models that are damaged, and names of none."""
    kind = "model"

    def damaged(name: str, file: str, content: str | bytes | None) -> Case:
        folder = shop.path("-model")
        shutil.copytree(shop.model, folder)
        target = folder / file
        if content is None:
            target.unlink()
        else:
            target.write_bytes(content.encode() if isinstance(content, str) else content)
        return shop.case(kind, name, "--model", str(folder))

    config = json.loads((shop.model / "config.json").read_text())
    weights = (shop.model / "model.safetensors").read_bytes()
    yield damaged("no config", "config.json", None)
    for name, content in (
        ("empty", ""),
        ("no JSON", "{"),
        ("a list", "[]"),
        ("a number", "3"),
        ("UTF-16", "{}".encode("utf-16")),
    ):
        yield damaged(f"config: {name}", "config.json", content)
    for changes in (
        {"model_type": "lama"}, {"model_type": 3}, {"model_type": None}, {"architectures": ["BertModel"]},
        {"architectures": "LlamaForCausalLM"}, {"architectures": 3}, {"hidden_size": -1}, {"hidden_size": "x"},
        {"hidden_size": 7},
        {"num_hidden_layers": 0.5}, {"vocab_size": 3}, {"vocab_size": None}, {"num_attention_heads": 0},
        {"hidden_act": "siluu"}, {"is_encoder_decoder": True}, {"rope_scaling": 3}, {"intermediate_size": 10**15},
        {"max_position_embeddings": 3},
    ):  # fmt: skip
        yield damaged(f"config: {changes}", "config.json", json.dumps({**config, **changes}))
    yield damaged("no tokenizer", "tokenizer.json", None)
    for name, content in (("empty", ""), ("no JSON", "{"), ("a list", "[]"), ("nothing in it", "{}")):
        yield damaged(f"tokenizer: {name}", "tokenizer.json", content)
    yield damaged("no weights", "model.safetensors", None)
    for name, content in (
        ("empty", b""),
        ("cut off", weights[: len(weights) // 2]),
        ("noise", b"x" * 1000),
        ("a huge head", b"\xff" * 64),
    ):
        yield damaged(f"weights: {name}", "model.safetensors", content)
    yield damaged("a template that fails", "chat_template.jinja", "{{ raise_exception('no') }}")
    yield damaged("a template that is none", "chat_template.jinja", "{% if %}")
    yield damaged("a template without messages", "chat_template.jinja", "Hello")
    yield shop.case(kind, "the name nobody/nothing", "--model", "nobody/nothing", code=1)
    for name in ("smollm2-135n", "a/b/c", "/nowhere", "~/nowhere-at-all", "openai/", "nowhere:engine", "math:pi",
                 "benchmarks.simulated:nothing", "benchmarks.simulated:", ":", "x.gguf", "json",
                 "C:\\models"):  # fmt: skip
        yield shop.case(kind, f"the name {name}", "--model", name)
    for content in (b"", b"GGUF", b"GGUF" + b"\xff" * 100, b"x" * 100):
        yield shop.case(kind, f"GGUF of {content[:8]!r}", "--model", shop.file(content, ".gguf"))
    folder = str(shop.model)
    for options in (["--device", "cuda:99"], ["--device", "gpu"], ["--attn-implementation", "flash"], ["--dtype",
    "int8"],
                    ["--threads", "0"], ["--threads", "9" * 30], ["--max-reasoning-tokens", "9" * 30], ["--seed", "-1"],
                    ["--set", "model.weights=pickle"], ["--set", "model.endpoint.timeout=3"], ["--revision", "main"],
                    ["--set", "layout.chat_template_kwargs={tools: 3}"], ["--set", "task.extractor=x"]):  # fmt: skip
        yield shop.case(kind, " ".join(options)[:60], "--model", folder, *options)


# -- folders and environments ------------------------------------------------------------------------------------------


def folders(shop: Workshop) -> Iterator[Case]:
    """Places where nothing can be written, or that are another's."""
    kind = "output folder"
    other = shop.path("-other")
    other.mkdir()
    (other / "thesis.txt").write_text("mine")
    file = shop.file("mine", ".txt")
    closed = shop.path("-closed")
    closed.mkdir(mode=0o500)
    paths = {"a file": file, "below a file": f"{file}/x", "of another": str(other), "empty": "", "root": "/",
    "/proc/x": "/proc/x",
             "/dev/null": "/dev/null", "too long": LONG, "a NUL byte": "a\0b", "/sys/x": "/sys/x"}  # fmt: skip
    if not os.access(closed, os.W_OK):
        paths["closed"] = str(closed / "x")
    grid = {"methods": ["zero-shot-cot"], "tasks": ["bbh/navigate"], "models": [SIMULATED], "seeds": [0]}
    settings = {"task": {"data": "synthetic", "test_size": 2, "train_size": 2, "dev_size": 0}, "shard_size": 2}
    name = shop.file(json.dumps({**grid, "settings": settings}), ".yaml")
    for what, path in paths.items():
        case = shop.case(kind, f"{what}, a run", "--out", path)
        yield Case(kind, case.name, case.args, code=EITHER)
        yield Case(kind, f"{what}, a grid", ["grid", name, "--out", path, "--replicas", "0"], code=EITHER)
        if what in ("a file", "below a file", "too long", "closed", "/dev/null", "/proc/x"):
            yield Case(kind, f"{what}, a schema", ["schema", "grid", "--to", path + "/x.json"], code=EITHER)


def environments(shop: Workshop) -> Iterator[Case]:
    """Variables that lead nowhere."""
    kind = "environment"
    file = shop.file("x", ".txt")
    grid = {"methods": ["zero-shot-cot"], "tasks": ["bbh/navigate"], "models": [SIMULATED], "seeds": [0],
            "settings": {"task": {"data": "synthetic", "test_size": 2}}}  # fmt: skip
    name = shop.file(json.dumps(grid), ".yaml")

    def ray(what: str, **environment: str) -> Case:
        args = ["grid", name, "--out", str(shop.path("-out")), "--replicas", "1"]
        return Case(kind, what, args, code=EITHER, environment=environment, process=True)

    yield ray("Ray at nowhere", RAY_ADDRESS="127.0.0.1:1")
    yield ray("Ray at no address", RAY_ADDRESS="nowhere")
    yield ray("Ray's files at nowhere", RAY_TMPDIR="/proc/x")
    gguf = shop.file(b"GGUF" + b"\0" * 64, ".gguf")
    for cache in (file, "/proc/x", "/dev/null"):
        yield shop.case(
            kind, f"the cache at {cache[-9:]}", "--model", gguf, code=EITHER, environment={"GREATER_RAY_CACHE": cache}
        )
        built_in = {"GREATER_RAY_CACHE": cache, "PIP_NO_INDEX": "1"}
        yield shop.case(
            kind, f"the model's cache at {cache[-9:]}", "--model", "smollm2-135m", code=EITHER, environment=built_in
        )
        yield shop.case(kind, f"the hub's cache at {cache[-9:]}", "--model", "nobody/nothing", code=EITHER,
                        environment={"HF_HOME": cache, "HF_HUB_CACHE": cache}, process=True)  # fmt: skip
    for url in (
        "http://127.0.0.1:1/v1",
        "nowhere",
        "ftp://x",
        "",
        "http://",
        "http://[::1",
        "http://nowhere.invalid/v1",
    ):
        environment = {"OPENAI_BASE_URL": url, "OPENAI_API_KEY": "sk-x"}
        yield shop.case(kind, f"an endpoint at {url!r}", "--model", "openai/x", "--method", "opro", "--set",
        "model.endpoint.retries=0",
                        code=EITHER, environment=environment)  # fmt: skip
    yield shop.case(kind, "no key", "--model", "openai/x", "--method", "opro", "--set",
    "model.endpoint.base_url=http://127.0.0.1:1/v1",
                    "--set", "model.endpoint.api_key_env=NOWHERE_KEY", "--set", "model.endpoint.retries=0",
                    code=EITHER)  # fmt: skip
    yield shop.case(
        kind,
        "an extra in the home of nobody",
        "--model",
        "nobody/nothing",
        code=EITHER,
        environment={"HOME": "/nowhere"},
    )
    yield Case(kind, "no home, an output below it", [*shop.case(kind, "").args, "--out", "~nobody/x/\0"], code=EITHER)
