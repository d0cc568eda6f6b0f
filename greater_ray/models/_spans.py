"""Token ids, built in one place: head, p, suffix, r, glue, extractor, label.

The head is all in front of the prompt, the suffix all between prompt and reasoning. Where the prompt follows the
question, the head is chat opening, x, joint and frozen prefix, and all rows have the same suffix. Where it stands in
front, all rows have the same head, and x belongs to the suffix. Demonstrations belong to the opening, or to the joint
where the prompt is the system message. Those that are chosen by the question make heads of a row's own, or suffixes.

The parts are tokenized once each and concatenated; state is token ids, so no boundary ever moves when a neighbour
changes. ``build`` names the spans of a whole sequence and asserts that they tile it.
"""

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from greater_ray.errors import ConfigError, DataError, MarkupError, ModelError
from greater_ray.models._placement import Surroundings, markup_tokens, second_turn, shows_system, surroundings
from greater_ray.types import SLOTS, Example, Layout, PromptCheck, TokenIds

# Gives text that continues something a token to lean on, so that a leading blank is tokenized as inside a sentence.
_ANCHOR = "Use"

# Half of a surrogate pair: bytes of a command line that are not UTF-8, or an escape in a file.
_HALF = re.compile("[\ud800-\udfff]")

_END = ("reasoning", "glue", "extractor", "label")
# The order of the spans, where the prompt follows the question and where it stands in front.
SPANS = ("opening", "question", "joint", "frozen", "prompt", "suffix", *_END)
PROMPT_FIRST_SPANS = ("opening", "frozen", "prompt", "joint", "question", "suffix", *_END)


@dataclass(frozen=True, slots=True)
class Sequence:
    """A whole sequence and the half-open token ranges of its parts, in their order."""

    ids: TokenIds
    spans: dict[str, tuple[int, int]]

    def __post_init__(self) -> None:
        end = 0
        for name, (start, stop) in self.spans.items():
            if start != end or stop < start:
                raise AssertionError(f"span {name} is {start}:{stop}, expected to start at {end}")
            end = stop
        if end != len(self.ids):
            raise AssertionError(f"spans end at {end}, the sequence at {len(self.ids)}")


class SpanBuilder:
    """Builds token ids for one tokenizer and one layout."""

    def __init__(self, tokenizer: Any, layout: Layout) -> None:
        self.tokenizer = tokenizer
        self.layout = layout
        self._heads: dict[str, TokenIds] = {}
        self._suffixes: dict[str, TokenIds] = {}
        self._labels: dict[str, TokenIds] = {}
        self._special = markup_tokens(tokenizer)
        for setting, value in (
            ("layout.placement", layout.placement),
            ("layout.system", layout.system),
            ("layout.frozen_prefix", layout.frozen_prefix),
            ("layout.joint", layout.joint),
            ("layout.glue", layout.glue),
            ("task.extractor", layout.extractor),
            *(("task.choices", choice) for choice in layout.choices),
        ):
            if value is not None and (fault := self._fault(value)) is not None:
                raise ConfigError(fault, setting=setting, value=value)
        for shown in layout.demonstrations:
            for text in (shown.question, *(turn.content for turn in layout.answered(shown))):
                if (fault := self._fault(text)) is not None:
                    raise DataError(f"demonstration '{shown.id}' {fault}")
        self._arounds: dict[str, Surroundings] = {}
        # What is next to the prompt, and in which order it stands with the question, is the same for every row.
        self._any = self._around("")
        apart = layout.placement == "system" and shows_system(tokenizer)
        self.shared_head = self.prompt_first and (apart or not layout.nearest)

    @property
    def rendered(self) -> str:
        """The turns that ask, with ``{question}`` and ``{prompt}`` in their places; see ``RenderedTurns``."""
        first, second = reversed(SLOTS) if self.prompt_first else SLOTS
        return self._any.opening + first + self._any.between + second + self._any.closing

    def _around(self, question: str) -> Surroundings:
        """The text around question and prompt: a question's own where its demonstrations are chosen for it."""
        key = question if self.layout.nearest else ""
        if key not in self._arounds:
            self._arounds[key] = surroundings(self.tokenizer, self.layout.at(question))
        return self._arounds[key]

    @property
    def opening_text(self) -> str:
        """The text before question and prompt; of some row where the rows have different ones."""
        return self._any.opening

    @property
    def prompt_first(self) -> bool:
        """Whether the prompt stands in front of the question."""
        return self._any.prompt_first

    def _encode(self, text: str) -> TokenIds:
        return tuple(self.tokenizer(text, add_special_tokens=False).input_ids)

    def _encode_after(self, anchor: str, text: str, left: TokenIds | None = None) -> TokenIds:
        """Tokenize ``text`` as it continues ``anchor``, whose ids are ``left``; on its own if the two would merge."""
        left, both = self._encode(anchor) if left is None else left, self._encode(anchor + text)
        return both[len(left) :] if both[: len(left)] == left else self._encode(text)

    def _encode_before_word(self, text: str) -> TokenIds:
        """Tokenize ``text`` as a word follows it: many tokenizers cut blank lines at an end differently."""
        word, both = self._encode(_ANCHOR), self._encode(text + _ANCHOR)
        return both[: -len(word)] if both[-len(word) :] == word else self._encode(text)

    @cached_property
    def bos(self) -> TokenIds:
        """The beginning-of-sequence id that must be prepended: none where the chat template writes it itself."""
        bos_id = self.tokenizer.bos_token_id
        # A template may write it behind a line break.
        if bos_id is None or self.tokenizer.bos_token in self.opening_text:
            return ()
        adds_bos = bos_id in self.tokenizer("a").input_ids
        return (bos_id,) if adds_bos or not self.tokenizer.chat_template else ()

    def _fault(self, text: str) -> str | None:
        """Say what of a text would be no text to the tokenizer: markup, or half of a character."""
        half = _HALF.search(text)
        if half is not None:
            return f"holds {half[0]!a}, half of a character, which is no text."
        markup = next((token for token in self._special if token in text), None)
        return None if markup is None else f"contains '{markup}', which is markup of this model."

    def _question(self, example: Example) -> str:
        if (fault := self._fault(example.question)) is not None:
            raise DataError(f"row '{example.id}': the question {fault}")
        return example.question

    def _head_text(self, example: Example) -> str:
        around = self._around(example.question)
        text = around.opening
        if not self.prompt_first:
            text += self._question(example) + around.between
        # Without a frozen prefix the prompt's own leading blank separates it from what precedes.
        return text if self.layout.frozen_prefix else text.rstrip(" ")

    def head(self, example: Example) -> TokenIds:
        """Ids of all in front of the prompt; exactly one BOS where the model has one.

        Raises:
            DataError: the question contains chat markup of this model.
            ModelError: nothing stands in front of the prompt.
        """
        key = "" if self.shared_head else example.question
        if key not in self._heads:
            encode = self._encode_before_word if self._begins else self._encode
            ids = self.bos + encode(self._head_text(example))
            bos_id = self.tokenizer.bos_token_id
            if len(ids) > 1 and bos_id is not None and ids[0] == ids[1] == bos_id:
                raise AssertionError("the sequence begins with two BOS tokens")
            if not ids:
                raise ModelError(
                    f"'{self.layout.placement}' puts the prompt first of all, and this model has nothing that its "
                    "first token could follow; set §layout.frozen_prefix or §layout.system.",
                    setting="layout.placement",
                    value=self.layout.placement,
                )
            self._heads[key] = ids
        return self._heads[key]

    def suffix(self, example: Example) -> TokenIds:
        """Ids between the prompt and the model's reasoning.

        Raises:
            DataError: the question contains chat markup of this model.
        """
        key = example.question if self.prompt_first else ""
        if key not in self._suffixes:
            around = self._around(example.question)
            front = around.between + self._question(example) if self.prompt_first else ""
            self._suffixes[key] = self._encode_after(_ANCHOR, front + around.closing)
        return self._suffixes[key]

    @cached_property
    def extractor(self) -> TokenIds:
        """Ids of all between reasoning and label: glue and extractor, or a turn that asks for the answer."""
        return self._encode_after(".", "".join(text for _, text in self._before_label))

    @cached_property
    def _before_label(self) -> tuple[tuple[str, str], ...]:
        """The spans between reasoning and label with their texts."""
        layout = self.layout
        if not layout.extractor_turn:
            return ("glue", layout.glue), ("extractor", layout.extractor)
        return ("glue", ""), ("extractor", second_turn(self.tokenizer, layout))

    def _answer(self, text: str) -> TokenIds:
        """Ids of a label or choice as it follows the extractor, or begins a turn."""
        if self.layout.extractor_turn:
            return self._encode_after(self._before_label[1][1], text)
        return self._encode_after(self.layout.extractor, self.layout.label_prefix + text)

    def label(self, example: Example) -> TokenIds:
        """Ids of the gold label as it follows the extractor."""
        if example.label not in self._labels:
            if (fault := self._fault(example.label)) is not None:
                raise DataError(f"row '{example.id}': the answer {fault}")
            ids = self._answer(example.label)
            if not ids:
                raise DataError(f"row '{example.id}': the label '{example.label}' has no tokens.")
            self._labels[example.label] = ids
        return self._labels[example.label]

    @cached_property
    def choices(self) -> tuple[TokenIds, ...]:
        """Ids of every choice as it follows the extractor.

        Raises:
            ConfigError: the task's answers are no closed set.
        """
        if not self.layout.choices:
            why = "choices cannot be compared: the task's answers are no closed set; give §task.choices."
            raise ConfigError(why, setting="task.answer_type")
        return tuple(map(self._answer, self.layout.choices))

    @cached_property
    def _before_prompt(self) -> str:
        return self._any.opening if self.prompt_first else self._any.between

    @cached_property
    def _begins(self) -> bool:
        """Whether the prompt begins a message or a line: then no blank stands in front of it."""
        bare = not self.layout.frozen_prefix and self.layout.placement != "after"
        return bare and not self._before_prompt.endswith(" ")

    @cached_property
    def _prompt_anchor(self) -> tuple[str, TokenIds]:
        """What a prompt continues, as text and ids: the frozen prefix, a word, or all that stands before it."""
        if self._begins:
            return self._before_prompt, self._encode_before_word(self._before_prompt)
        text = self.layout.frozen_prefix or _ANCHOR
        return text, self._encode(text)

    def _as_placed(self, text: str) -> str:
        """Return a prompt's text as it stands in a rendered conversation: many templates trim a message's ends."""
        if self.layout.placement == "after":
            return text
        if self.layout.frozen_prefix:
            return text.rstrip()
        return (" " if self._before_prompt.endswith(" ") else "") + text.strip()

    def encode_prompt(self, text: str) -> TokenIds:
        """Tokenize a prompt as it continues what stands in front of it.

        Raises:
            MarkupError: it contains chat markup of this model, or half of a character.
        """
        if (fault := self._fault(text)) is not None:
            raise MarkupError(f"the prompt {text.strip()[:60]!r} {fault}")
        return self._prompt_ids(text)

    def _prompt_ids(self, text: str) -> TokenIds:
        anchor, left = self._prompt_anchor
        return self._encode_after(anchor, self._as_placed(text), left)

    def decode_prompt(self, prompt: TokenIds) -> str:
        """Return the text of a prompt, with its leading blank."""
        _, anchor = self._prompt_anchor
        decode = self.tokenizer.decode
        before = decode(list(anchor), clean_up_tokenization_spaces=False)
        whole: str = decode(list(anchor + prompt), clean_up_tokenization_spaces=False)
        return whole[len(before) :] if whole.startswith(before) else decode(list(prompt))

    def check(self, prompt: TokenIds) -> PromptCheck:
        """Decode a prompt and tell whether its text gives the same ids again."""
        text = self.decode_prompt(prompt)
        return PromptCheck(text, self._prompt_ids(text) == prompt)

    def build(self, example: Example, prompt: TokenIds, reasoning: TokenIds) -> Sequence:
        """Return the whole sequence of one sample with its spans; a token belongs to the span it begins in."""
        layout, around = self.layout, self._around(example.question)
        ids: list[int] = []
        spans: dict[str, tuple[int, int]] = {}

        def append(tokens: TokenIds, *parts: tuple[str, str]) -> None:
            """Add tokens whose text is that of the named parts together."""
            starts = [s for s, _ in self.tokenizer("".join(text for _, text in parts), add_special_tokens=False,
                                                   return_offsets_mapping=True)["offset_mapping"]]  # fmt: skip
            # What is in front of the text, as a BOS, belongs to the first part.
            starts = [-1] * (len(tokens) - len(starts)) + starts
            begin, end = -1, 0
            for name, text in parts:
                end += len(text)
                last = name == parts[-1][0]
                count = sum(begin <= s and (s < end or last) for s in starts[: len(tokens)])
                spans[name] = (len(ids), len(ids) + count)
                ids.extend(tokens[len(ids) - offset : len(ids) - offset + count])
                begin = end

        offset = 0
        frozen = layout.frozen_prefix
        before = (around.opening if self.prompt_first else around.between).removesuffix(frozen)
        question = ("question", example.question)
        if self.prompt_first:
            append(self.head(example), ("opening", before), ("frozen", frozen))
        else:
            texts = (("opening", around.opening), question, ("joint", before), ("frozen", frozen))
            append(self.head(example), *texts)
        spans["prompt"] = (len(ids), len(ids) + len(prompt))
        ids.extend(prompt)
        offset = len(ids)
        if self.prompt_first:
            append(self.suffix(example), ("joint", around.between), question, ("suffix", around.closing))
        else:
            append(self.suffix(example), ("suffix", around.closing))
        spans["reasoning"] = (len(ids), len(ids) + len(reasoning))
        ids.extend(reasoning)
        offset = len(ids)
        append(self.extractor, *self._before_label)
        label = self.label(example)
        spans["label"] = (len(ids), len(ids) + len(label))
        ids.extend(label)
        return Sequence(tuple(ids), spans)
