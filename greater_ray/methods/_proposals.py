"""From a reply to a prompt: reading what a model wrote, cleaning it, and the guards that refuse what cannot be used.

A reply becomes a ``Proposal``: a clean prompt, or the reason why it is none. Nothing is dropped silently; every
proposal stands in the step's record with its status.
"""

import re
import unicodedata
from collections.abc import Iterable
from typing import NamedTuple

from greater_ray.errors import MarkupError
from greater_ray.protocols import Problem
from greater_ray.types import TokenIds

# So many words in a row that also stand in a question or in the meta-prompt are a copy, not an instruction.
COPIED_WORDS = 8
START_TAG, END_TAG = "<prompt>", "</prompt>"


class Proposal(NamedTuple):
    """A prompt that a model wrote, ready to be scored (``status`` is ``"new"``), or why it is not."""

    text: str
    status: str
    ids: TokenIds = ()

    @property
    def usable(self) -> bool:
        """Whether it can be scored."""
        return self.status == "new"


def tagged(text: str, start: str = START_TAG, end: str = END_TAG) -> str | None:
    """Return what stands in the last complete pair of tags, or after an opening tag up to the first blank line."""
    opening, closing = re.escape(start), re.escape(end)
    if pairs := re.findall(rf"{opening}((?:(?!{opening}|{closing}).)*){closing}", text, re.DOTALL):
        return str(pairs[-1])
    if start in text:
        return text.rpartition(start)[2].strip().partition("\n\n")[0]
    return None


# What a writer calls its prompt, as in "the new prompt" or "an improved instruction".
_NAME = (
    r"((the|a|an|my|your)\s+)?((new|improved|revised|final|updated|better|refined|rewritten)\s+)*(prompt|instruction)\b"
)
_ROLE = re.compile(r"^(assistant|user|system)\s*:?\s*\n", re.IGNORECASE)
_LABEL = re.compile(rf"^{_NAME}\s*:\s*", re.IGNORECASE)
_HEADING = re.compile(rf"^#{{1,6}}\s*{_NAME}\s*:?\s*\n", re.IGNORECASE)
# "Sure, here is the revised prompt:", up to the colon, with a few words more before it.
_PREFACE = re.compile(
    rf"^((sure|certainly|of course|okay|ok)\b[,.!:]*\s+)?here(['’]s|\s+is)\s+{_NAME}[^\n:]{{0,60}}:\s*", re.IGNORECASE
)
_LISTED = re.compile(r"^([-*•]|\d+[.)])\s+")
_QUOTES = (('"', '"'), ("'", "'"), ("`", "`"), ("“", "”"), ("‘", "’"))
# An apostrophe inside a word is no quote mark.
_APOSTROPHE = re.compile(r"(?<=\w)['’](?=\w)")
# What a prompt that is complete does not hold: slots and tags still to be filled in, and the markup of chats.
UNFILLED = re.compile(
    r"</?[a-z_][\w '’-]*>"  # <answer>, </prompt>, <your answer>, <s>, <start_of_turn>
    r"|<[|｜][^<>]*[|｜]>"  # <|im_end|>, <|eot_id|>
    r"|\[/inst\]"
    # Words in brackets, but no letter or number such as [A] or [1], and no list such as [1, 2] or [True, False].
    r"|\[(?=[^\]]*[^\W\d_]{2})[\w\s'’-]+\]"
    r"|\[(insert|enter|your|name|input|question|answer)\b[^\]]*\]"
    r"|\{(?!\s*\d+\s*\})[\w\s'’-]*\}",  # {}, {Question}, {your answer}, but not {1}
    re.IGNORECASE,
)


def clean(text: str) -> str:
    """Take off what is around a prompt and not part of it: fences, quotes, a list mark, role names, a heading.

    Quotes stay where the same mark also stands inside, and a list mark where a later line begins with one: then they
    are the prompt's own.
    """
    text = unicodedata.normalize("NFC", text.replace("\r\n", "\n")).strip()
    before = None
    while text != before:
        before = text
        if text.startswith("```") and text.endswith("```") and len(text) > 6:
            text = text[3:-3].partition("\n")[2] if "\n" in text else text[3:-3]
        for pattern in (_ROLE, _HEADING, _PREFACE, _LABEL):
            text = pattern.sub("", text)
        if not any(_LISTED.match(line.lstrip()) for line in text.split("\n")[1:]):
            text = _LISTED.sub("", text)
        for opening, closing in _QUOTES:
            inside = text[1:-1]
            within = _APOSTROPHE.sub("", inside)
            if inside and text[0] == opening and text[-1] == closing and not {opening, closing} & set(within):
                text = inside
        text = text.replace("**", "").strip()
    return text


def canonical(text: str) -> str:
    """Return the form in which two prompts are the same prompt."""
    return " ".join(text.split()).casefold()


def propose(
    problem: Problem,
    texts: Iterable[str | None],
    *,
    known: Iterable[str],
    max_prompt_tokens: int,
    meta: str = "",
) -> list[Proposal]:
    """Clean and judge what a model wrote; None is a reply that could not be read.

    A proposal equal to one in ``known`` or to an earlier one is a duplicate; one that announces the gold answer of a
    train or dev row is a leak; one that leaves no room for reasoning in the model's context window is too long like
    one above ``max_prompt_tokens``. ``meta`` is the wording of the meta-prompt, which must not come back as a prompt.
    """
    seen = {canonical(text) for text in known}
    rows = (*problem.examples, *problem.dev)
    runs = _runs(meta) | {run for example in rows for run in _runs(example.question)}
    announced = announcing(gold for example in rows for gold in (example.target, example.label))
    longest = problem.prompt_limit(max_prompt_tokens)
    proposals = []
    for raw in texts:
        text = "" if raw is None else clean(raw)
        try:
            ids: TokenIds | None = problem.encode(text)
        except MarkupError:
            ids = None
        if raw is None:
            status = "unreadable"
        elif not text:
            status = "empty"
        elif not any(c.isalpha() for c in text):
            status = "no words"
        elif UNFILLED.search(text):
            status = "unfilled slot or tag"
        elif ids is None:
            status = "markup"
        elif announced.search(text):
            status = "leak"
        elif len(ids) > longest:
            status = "too long"
        elif _runs(text) & runs:
            status = "copied"
        elif canonical(text) in seen:
            status = "duplicate"
        else:
            status = "new"
            seen.add(canonical(text))
        proposals.append(Proposal(text, status, ids if ids and status == "new" else ()))
    return proposals


def announcing(golds: Iterable[str]) -> re.Pattern[str]:
    """Return what finds an answer that is given away, as in "The answer is True." or "answer: 42".

    The gold answer must end its sentence or line: "The answer is True or False" gives nothing away.
    """
    distinct = sorted({gold.strip() for gold in golds} - {""})
    # Without gold answers nothing can match.
    gold = "|".join(map(re.escape, distinct)) or "(?!)"
    opening, closing = r"""["'`“‘(\[{*]*""", r"""["'`”’)\]}*]*"""
    return re.compile(
        rf"\banswer(\s+is\b\s*:?|\s*[:=])\s*{opening}({gold}){closing}"
        rf"([.!?]+{closing}(?=\s|\Z)|[^\S\n]*(\n|\Z))",
        re.IGNORECASE,
    )


def _runs(text: str) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.casefold())
    return {tuple(words[k : k + COPIED_WORDS]) for k in range(len(words) - COPIED_WORDS + 1)}
