"""A DSPy program: its state as JSON, and a module with the adapter that renders it as the trial did."""

from dataclasses import replace
from json import dumps
from pprint import pformat
from typing import Any

from greater_ray.export import Files, Format
from greater_ray.export._turns import PromptTurns, has_system_role, prompt_turns
from greater_ray.export.openai import template_arguments
from greater_ray.models.endpoint import ASK, pieces
from greater_ray.records import TrialRecord
from greater_ray.types import Layout

_QUESTION, _PROMPT = "\x00question\x00", "\x00prompt\x00"
_FILE = '''\
"""The DSPy program of trial {trial_id}: reasoning under the prompt, then the answer, asked for in a turn of its own.

    import dspy
    from program import Layout, load

    dspy.configure(lm=dspy.LM("openai/{model}", api_base="http://localhost:8000/v1", api_key="..."), adapter=Layout())
    load()(question="...").answer

DSPy's own adapters put the same prompt and demonstrations into another form, which was not measured. An optimizer of
DSPy may change the instructions: they stand where the prompt stood.
"""

import inspect
import re
from pathlib import Path

import dspy

PROMPT = {prompt!r}
# What the messages are made of: texts around the question (QUESTION) and the prompt (INSTRUCTIONS).
QUESTION, INSTRUCTIONS = object(), object()
SYSTEM = {system}
ASKED = {asked}
FIRST = {first!r}  # stands in front of the first question
EXTRACTOR = {extractor!r}
ASK = {ask!r}
REASONING = {reasoning}
ANSWER = {answer}


def fill(parts, question, instructions):
    """Return the text of a turn."""
    # DSPy shows instructions without their indentation and outer blanks.
    prompt = PROMPT if instructions == inspect.cleandoc(PROMPT) else instructions
    return "".join({{QUESTION: question, INSTRUCTIONS: prompt}}.get(part, part) for part in parts)


def turns(question, instructions, demos=(), reasoning=None):
    """Return the messages that ask a question, and with a reasoning those that ask for the answer."""
    said = []
    for demo in demos:
        said += [("user", fill(ASKED, demo["question"], instructions)), ("assistant", demo["reasoning"])]
        if demo.get("answer"):
            said += [("user", EXTRACTOR), ("assistant", demo["answer"])]
    said.append(("user", fill(ASKED, question, instructions)))
    said[0] = ("user", FIRST + said[0][1])
    if reasoning is not None:
        said += [("assistant", reasoning), ("user", ASK)]
    if SYSTEM is not None:
        said.insert(0, ("system", fill(SYSTEM, "", instructions)))
    return [{{"role": role, "content": content}} for role, content in said]


class Layout(dspy.Adapter):
    """Renders the messages as they were measured; what the model says is the output, as it is."""

    def format(self, signature, demos, inputs):
        return turns(inputs["question"], signature.instructions, demos, inputs.get("reasoning"))

    def parse(self, signature, completion):
        (name,) = signature.output_fields
        if name == "answer":
            # The model may say the sentence again before it completes it.
            words = r"\\s+".join(map(re.escape, EXTRACTOR.split()))
            completion = re.sub(r"^\\W*" + words, "", completion, count=1, flags=re.IGNORECASE)
        return {{name: completion}}


class Program(dspy.Module):
    def __init__(self):
        super().__init__()
        self.reason = dspy.Predict(dspy.Signature("question -> reasoning", PROMPT), **REASONING)
        self.answer = dspy.Predict(dspy.Signature("question, reasoning -> answer", PROMPT), **ANSWER)

    def forward(self, question):
        reasoning = self.reason(question=question).reasoning
        answer = self.answer(question=question, reasoning=reasoning).answer
        return dspy.Prediction(reasoning=reasoning, answer=answer)


def load():
    """Return the program with the state that lies beside this file."""
    program = Program()
    program.load(str(Path(__file__).with_name("program.json")))
    return program
'''


def dspy(record: TrialRecord) -> Files:
    """Return ``program.json``, the state, and ``program.py``, the module and adapter that it belongs to.

    Raises:
        ConfigError: every question has demonstrations of its own.
        DataError: the rows that decide how the extractor reads are gone.
    """
    how = prompt_turns(record, "dspy")
    layout = how.layout
    system_role = has_system_role(record)
    first = f"{layout.system}\n\n" if layout.system and not system_role else ""
    *system, last = _open(layout, record, system_role).conversation(_QUESTION, "", system_role=system_role)
    extractor = layout.extractor.strip()
    extra = template_arguments(layout)
    common: dict[str, Any] = {"temperature": 0.0}
    if extra:
        common["extra_body"] = {"chat_template_kwargs": extra}
    program = _FILE.format(
        trial_id=record.trial_id,
        model=record.config.model.name.removeprefix("openai/"),
        prompt=_prompt(record),
        system=_parts(system[0].content) if system else None,
        asked=_parts(last.content),
        first=first,
        extractor=extractor,
        ask=extractor if layout.extractor_turn else ASK.format(extractor=extractor),
        reasoning=pformat(common | {"max_tokens": layout.max_reasoning_tokens}, width=110),
        answer=pformat(common | {"max_tokens": layout.max_answer_tokens + len(pieces(extractor))}, width=110),
    )
    demos = _demos(how)
    state = {
        "reason": _state(_prompt(record), demos, ("question", "reasoning")),
        "answer": _state(_prompt(record), demos, ("question", "reasoning", "answer")),
        "metadata": {"dependency_versions": {}},
    }
    return Files({"program.json": dumps(state, indent=1, ensure_ascii=False) + "\n", "program.py": program})


def _prompt(record: TrialRecord) -> str:
    return record.best.full_text.strip()


def _open(layout: Layout, record: TrialRecord, system_role: bool) -> Layout:
    """Return a layout whose prompt is the slot, with the blanks around it as part of the layout."""
    text = record.best.full_text
    start = text[: len(text) - len(text.lstrip())]
    end = text[len(text.rstrip()) :]
    joint = layout.joint
    if not layout.frozen_prefix:
        # Without a frozen prefix the layout trims prompt and joint as they meet; see ``Layout.conversation``.
        if layout.placement == "after":
            joint = joint.rstrip(" ")
        else:
            start = ""
    return replace(
        layout,
        frozen_prefix=start + _PROMPT + end,
        joint=joint,
        demonstrations=(),
        system=layout.system if system_role else None,
    )


def _parts(text: str) -> str:
    """Return a Python expression for a text around the slots."""
    names = {_QUESTION: "QUESTION", _PROMPT: "INSTRUCTIONS"}
    parts: list[str] = []
    for piece in text.replace(_QUESTION, f"\x01{_QUESTION}\x01").replace(_PROMPT, f"\x01{_PROMPT}\x01").split("\x01"):
        if piece:
            parts.append(names.get(piece) or repr(piece))
    return f"[{', '.join(parts)}]"


def _demos(how: PromptTurns) -> list[dict[str, str]]:
    """Return the demonstrations: the question, and what the assistant says to it."""
    demos = []
    for shown in how.layout.demonstrations:
        said = how.layout.answered(shown)
        demo = {"question": shown.question, "reasoning": said[0].content}
        demos.append(demo | ({"answer": said[-1].content} if len(said) > 1 else {}))
    return demos


def _state(instructions: str, demos: list[dict[str, str]], fields: tuple[str, ...]) -> dict[str, Any]:
    """Return what ``dspy.Predict.dump_state`` gives."""
    described = [{"prefix": f"{name.title()}:", "description": f"${{{name}}}"} for name in fields]
    signature = {"instructions": instructions, "fields": described}
    return {"traces": [], "train": [], "demos": demos, "signature": signature, "lm": None}


PLUGIN = Format("a DSPy program: a folder with its state (JSON), module and adapter", dspy)
