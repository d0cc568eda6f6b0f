"""A task of lm-evaluation-harness: the prompt as its template, the demonstrations as its examples, the test rows."""

import json
import re
from typing import Any

import yaml

from greater_ray.errors import ConfigError
from greater_ray.export import Files, Format
from greater_ray.export._reading import ignores_case, pattern_of
from greater_ray.export._turns import prompt_turns, template
from greater_ray.protocols import Task
from greater_ray.records import TrialRecord

_HEADER = """\
# The prompt of trial {trial_id}, on the test rows of {task}. The answer is the last one in the model's reasoning.
#     cd THIS_FOLDER
#     lm_eval run --model hf --model_args pretrained=MODEL --include_path . --tasks {name} \\
#         --apply_chat_template --fewshot_as_multiturn true
"""


def lm_eval(record: TrialRecord) -> Files:
    """Return ``NAME.yaml`` and ``NAME.jsonl``, the rows.

    Raises:
        ConfigError: every question has demonstrations of its own, or answers are free text.
        DataError: the rows are gone.
    """
    how = prompt_turns(record, "lm-eval")
    pattern = pattern_of(how.task)
    if pattern is None:
        why = f"answers of '{how.task.name}' are free text, which no rule of lm-eval finds in a reasoning."
        raise ConfigError(why, setting="format", value="lm-eval")
    name = task_name(how.task)
    folded = ignores_case(how.task)
    extract = {"function": "regex", "regex_pattern": "(?i)" * folded + pattern, "group_select": -1}
    value: dict[str, Any] = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": f"{name}.jsonl"}},
        "test_split": "test",
        "output_type": "generate_until",
        **({"description": template(how.system)} if how.system else {}),
        "doc_to_text": how.turns[-1].filled("{{ question }}", template),
        "doc_to_target": "label",
        "target_delimiter": "\n",
        "num_fewshot": len(how.pairs),
        "generation_kwargs": {"until": [], "do_sample": False, "max_gen_toks": how.layout.max_reasoning_tokens},
        "filter_list": [{"name": "last-answer", "filter": [extract, {"function": "take_first"}]}],
        "metric_list": [
            {
                "metric": "exact_match",
                "aggregation": "mean",
                "higher_is_better": True,
                "ignore_case": folded,
                **({"regexes_to_ignore": [","]} if how.task.answer_type == "number" else {}),
            }
        ],
        "metadata": {"version": 1.0, "trial_id": record.trial_id},
    }
    if how.pairs:
        value["fewshot_config"] = {
            "sampler": "first_n",
            "samples": [{"asked": user, "said": assistant} for user, assistant in how.pairs],
            "doc_to_text": "{{ asked }}",
            "doc_to_target": "{{ said }}",
        }
    text = yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=1000)
    rows = [{"id": row.id, "question": row.question, "label": row.label} for row in how.task.test()]
    return Files(
        {
            f"{name}.yaml": _HEADER.format(trial_id=record.trial_id, task=how.task.name, name=name) + text,
            f"{name}.jsonl": "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows),
        }
    )


def task_name(task: Task) -> str:
    """Return what the task is called in lm-eval, where names are parts of file names."""
    return "greater_ray_" + re.sub(r"\W+", "_", task.name).strip("_")


PLUGIN = Format("a task of lm-eval: a folder with its YAML and the test rows", lm_eval)
