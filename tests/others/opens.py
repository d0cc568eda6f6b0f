"""Opens one export in the program it is for, with that program's own interpreter: ``opens.py FORM PATH``.

Prints one line of JSON: name and version of the program, and what it made of the export. ``OPENAI_BASE_URL`` names a
server.
"""

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

QUESTION = "If you turn around twice, do you return to the starting point?"


def openai(path: Path) -> str:
    done = subprocess.run([sys.executable, path, QUESTION], capture_output=True, text=True, check=True)
    return f"answered {done.stdout.strip()!r}"


def messages(path: Path) -> str:
    from openai import OpenAI

    value = json.loads(path.read_text(encoding="utf-8"))
    turns = value["messages"] if isinstance(value, dict) else value
    asked = [{**turn, "content": turn["content"].replace("{question}", QUESTION)} for turn in turns]
    reply = OpenAI().chat.completions.create(model="tiny", messages=asked)
    return f"{len(turns)} messages, answered {reply.choices[0].message.content!r}"


def dspy(path: Path) -> str:
    import dspy

    os.chdir(path)
    sys.path.insert(0, str(path))
    from program import Layout, load

    dspy.configure(lm=dspy.LM("openai/tiny", api_base=os.environ["OPENAI_BASE_URL"], api_key="none"), adapter=Layout())
    return f"answer {load()(question=QUESTION).answer!r}"


def lm_eval(path: Path) -> str:
    import lm_eval
    from lm_eval.tasks import TaskManager

    os.chdir(path)
    (name,) = (file.stem for file in path.glob("*.yaml"))
    arguments = {"base_url": os.environ["OPENAI_BASE_URL"] + "/chat/completions", "model": "tiny", "num_concurrent": 1}
    found = lm_eval.simple_evaluate(
        model="local-chat-completions", model_args=arguments, tasks=[name],
        task_manager=TaskManager(include_path="."), apply_chat_template=True, fewshot_as_multiturn=True,
    )  # fmt: skip
    scores = {
        key: round(float(value), 3) for key, value in found["results"][name].items() if key.startswith("exact_match,")
    }
    return f"{name}: {scores}"


def lm_eval_results(path: Path) -> str:
    from lm_eval.utils import get_results_filenames, get_sample_results_filenames, make_table

    files = [str(file) for file in path.iterdir()]
    (results,) = get_results_filenames(files)
    (samples,) = get_sample_results_filenames(files)
    table = make_table(json.loads(Path(results).read_text(encoding="utf-8")))
    count = len(Path(samples).read_text(encoding="utf-8").splitlines())
    return f"{count} samples, {table.splitlines()[-1]}"


def inspect(path: Path) -> str:
    from inspect_ai.log import read_eval_log

    head, log = read_eval_log(str(path), header_only=True), read_eval_log(str(path))
    assert head.status == log.status == "success"
    scores = {score.name: {name: m.value for name, m in score.metrics.items()} for score in log.results.scores}
    return f"{len(log.samples)} samples, {scores}"


def dataset(path: Path) -> str:
    import datasets

    rows = datasets.load_dataset("parquet", data_files=str(path), split="train")
    return f"{rows.num_rows} rows of {rows.num_columns} columns"


# For each format: the distribution that it is for, and what opens it.
OPENS: dict[str, tuple[str, Any]] = {
    "messages": ("openai", messages),
    "json": ("openai", messages),
    "openai": ("openai", openai),
    "dspy": ("dspy", dspy),
    "lm-eval": ("lm_eval", lm_eval),
    "lm-eval-results": ("lm_eval", lm_eval_results),
    "inspect": ("inspect_ai", inspect),
    "dataset": ("datasets", dataset),
}

if __name__ == "__main__":
    name, opened = OPENS[sys.argv[1]]
    told = opened(Path(sys.argv[2]).resolve())
    print(json.dumps({"program": f"{name} {version(name)}", "told": told}))
