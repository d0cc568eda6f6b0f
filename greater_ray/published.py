"""A prompt that somebody else wrote down, read as settings of ours: the way back of ``greater_ray.export``.

Read are plain text, chat messages, saved DSPy programs, promptfoo configurations and tasks of lm-eval. What stands
around the question becomes the prompt, and where it stood its placement. Worked examples are not taken over: as turns
they no longer tell reasoning, extractor and label apart.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from greater_ray.errors import ConfigError
from greater_ray.types import SLOTS

# Stands for the question; JSON writes it as it is.
_OPEN = "\ue000question\ue000"
# What a slot is called in texts that are no templates of jinja2: ``{question}``, as we write it.
_SLOT = SLOTS[0]
_SETTING = "file"
# Variables of promptfoo that are not the question.
_OTHERS = {"_conversation", "ask", "env"}


@dataclass(frozen=True)
class Published:
    """A prompt and where it stands; ``left_out`` is how many worked examples were not taken over.

    ``joint`` is what stands between question and prompt, None where the placement says it.
    """

    prompt: str
    placement: str
    joint: str | None = None
    system: str | None = None
    left_out: int = 0

    def settings(self) -> dict[str, Any]:
        """Return settings of a trial that starts from the prompt, as they stand in a file for ``--config``."""
        layout: dict[str, Any] = {"placement": self.placement, "frozen_prefix": ""}
        if self.joint is not None:
            layout["joint"] = self.joint
        if self.system is not None:
            layout["system"] = self.system
        return {"layout": layout, "method_config": {"initial_prompt": self.prompt}}


def read_published(path: Path) -> Published:
    """Read a prompt from a file.

    Raises:
        ConfigError: the file cannot be read, is of no form that is known, or does not tell one prompt.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _refused(path, f"cannot be read ({getattr(error, 'strerror', None) or 'no text in UTF-8'}).") from error
    if path.suffix.lower() not in (".json", ".yaml", ".yml"):
        return _of_text(path, text)
    try:
        value = json.loads(text) if path.suffix.lower() == ".json" else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        raise _refused(path, f"is not readable {path.suffix.lstrip('.').upper()}.") from error
    if _are_messages(value):
        return _of_turns(path, [(m["role"], m["content"].replace(_SLOT, _OPEN)) for m in value])
    if isinstance(value, Mapping):
        if _are_messages(value.get("messages")):
            return _of_turns(path, [(m["role"], m["content"].replace(_SLOT, _OPEN)) for m in value["messages"]])
        if isinstance(value.get("prompts"), Sequence):
            return _of_promptfoo(path, value["prompts"])
        if isinstance(value.get("doc_to_text"), str):
            return _of_lm_eval(path, value)
        predictors = {name: part for name, part in value.items() if _is_predictor(part)}
        if _is_predictor(value):
            predictors = {"self": value}
        if predictors:
            return _of_dspy(path, predictors)
    raise _refused(path, "is no chat messages, saved DSPy program, promptfoo configuration or lm-eval task.")


def _refused(path: Path, why: str) -> ConfigError:
    return ConfigError(f"'{path}' {why}", setting=_SETTING, value=str(path))


def _are_messages(value: Any) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(m, Mapping) and isinstance(m.get("role"), str) for m in value)
        and all(isinstance(m.get("content"), str) for m in value)
    )


def _is_predictor(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and isinstance(value.get("signature"), Mapping)
        and isinstance(value["signature"].get("instructions"), str)
    )


# -- forms -------------------------------------------------------------------------------------------------------------


def _of_text(path: Path, text: str) -> Published:
    """A text with ``{question}`` says where the question stands; any other one is the prompt behind it."""
    text = text.removesuffix("\n")
    if _SLOT in text:
        return _of_turns(path, [("user", text.replace(_SLOT, _OPEN))])
    if not text.strip():
        raise _refused(path, "is empty.")
    return Published(f" {text.strip()}", "after", "")


def _of_promptfoo(path: Path, prompts: Sequence[Any]) -> Published:
    texts = [p.get("raw") if isinstance(p, Mapping) else p for p in prompts]
    if len(texts) != 1 or not isinstance(texts[0], str):
        raise _refused(path, f"has {len(texts)} prompts; leave one, written out in the file.")
    if texts[0].startswith("file://"):
        raise _refused(path, "names another file for its prompt; import that one.")
    text = _rendered(path, [texts[0]])[0]
    try:
        value = json.loads(text)
    except ValueError:
        return _of_turns(path, [("user", text)])
    if not _are_messages(value):
        raise _refused(path, "has a prompt that is no text and no chat messages.")
    return _of_turns(path, [(m["role"], m["content"]) for m in value])


def _of_lm_eval(path: Path, task: Mapping[str, Any]) -> Published:
    system, asked = _rendered(path, [str(task.get("description") or ""), task["doc_to_text"]])
    turns = [("system", system)] if system else []
    found = _of_turns(path, [*turns, ("user", asked)])
    shown = task.get("num_fewshot")
    return Published(**{**vars(found), "left_out": shown if isinstance(shown, int) else 0})


def _of_dspy(path: Path, predictors: Mapping[str, Any]) -> Published:
    """DSPy shows instructions in the system message."""
    texts = {part["signature"]["instructions"].strip() for part in predictors.values()}
    if len(texts) != 1:
        raise _refused(path, f"has predictors with instructions of their own ({', '.join(predictors)}); leave one.")
    demos = next(iter(predictors.values())).get("demos") or ()
    return Published(texts.pop(), "system", left_out=len(demos))


def _rendered(path: Path, templates: Sequence[str]) -> list[str]:
    """Return templates of jinja2 or nunjucks with the question open, in a sandbox: they may be anybody's."""
    from jinja2 import TemplateError, meta
    from jinja2.sandbox import SandboxedEnvironment

    site = SandboxedEnvironment(keep_trailing_newline=True)
    site.filters["dump"] = lambda value: json.dumps(value, ensure_ascii=False)
    try:
        names = {name for text in templates for name in meta.find_undeclared_variables(site.parse(text))} - _OTHERS
        if len(names) != 1:
            told = ", ".join(sorted(names)) or "none"
            raise _refused(path, f"should have one variable, the question, and has: {told}.")
        given = {names.pop(): _OPEN, "_conversation": (), "ask": "", "env": {}}
        return [site.from_string(text).render(given) for text in templates]
    except (TemplateError, TypeError, ValueError, ArithmeticError) as error:
        raise _refused(path, f"holds a template that jinja2 cannot render ({error}).") from error


# -- turns -------------------------------------------------------------------------------------------------------------


def _of_turns(path: Path, turns: Sequence[tuple[str, str]]) -> Published:
    """Return what turns say, of which the last one holds the question once."""
    system = None
    if turns[0][0] in ("system", "developer"):
        system, turns = turns[0][1], turns[1:]
    held = [role for role, content in turns for _ in range(content.count(_OPEN))]
    if held != ["user"] or not turns or turns[-1][0] != "user" or _OPEN not in turns[-1][1] or _OPEN in (system or ""):
        raise _refused(path, f"should hold the question once, as {_SLOT} in the last turn of the user.")
    before, after = turns[-1][1].split(_OPEN)
    left_out = len([role for role, _ in turns[:-1] if role == "user"])
    if not before.strip() and not after.strip():
        if not (system or "").strip():
            raise _refused(path, "has no prompt beside the question.")
        return Published((system or "").strip(), "system", left_out=left_out)
    if not before.strip():
        # The prompt's own blanks separate it from the question; line breaks belong to the joint.
        joint = re.match(r"\s*", after)[0].rstrip(" ")  # type: ignore[index]
        return Published(after.removeprefix(joint), "after", joint, system, left_out)
    if not after.strip():
        prompt = before.rstrip()
        return Published(prompt.strip(), "before", before[len(prompt) :] + after, system, left_out)
    if any(slot in before + after for slot in SLOTS):
        raise _refused(path, f"holds {' or '.join(SLOTS)} beside the question, which are slots here.")
    # The longer side is taken for the prompt; the other one is the text around it.
    question, prompt = SLOTS
    if len(before.strip()) > len(after.strip()):
        start, end = before[: len(before) - len(before.lstrip())], before[len(before.rstrip()) :]
        return Published(before.strip(), f"{start}{prompt}{end}{question}{after}", None, system, left_out)
    start, end = after[: len(after) - len(after.lstrip())], after[len(after.rstrip()) :]
    return Published(after.strip(), f"{before}{question}{start}{prompt}{end}", None, system, left_out)
