"""Token ids, built in one place: chat opening, x, joint, frozen prefix, p, chat suffix, r, glue, extractor, label.

The parts are tokenized once each and concatenated; state is token ids, so no boundary ever moves when a neighbour
changes. ``build`` names the spans of a whole sequence and asserts that they tile it.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from greater_ray.errors import ConfigError, DataError, ModelError
from greater_ray.types import Example, Layout, PromptCheck, TokenIds

_SLOT = "greaterslot"
# Gives text that continues something a token to lean on, so that a leading blank is tokenized as inside a sentence.
_ANCHOR = "Use"

SPANS = ("opening", "question", "joint", "frozen", "prompt", "suffix", "reasoning", "glue", "extractor", "label")


@dataclass(frozen=True, slots=True)
class Sequence:
    """A whole sequence and the half-open token ranges of its parts, in the order of ``SPANS``."""

    ids: TokenIds
    spans: dict[str, tuple[int, int]]

    def __post_init__(self) -> None:
        end = 0
        for name in SPANS:
            start, stop = self.spans[name]
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
        self._labels: dict[str, TokenIds] = {}
        self.opening_text, self.suffix_text = self._chat_markup()
        self._special = sorted({t for t in tokenizer.all_special_tokens if t.strip()})

    def _chat_markup(self) -> tuple[str, str]:
        """Return the text before the user's words and the text between them and the model's own."""
        if not self.tokenizer.chat_template:
            return "", "\n"
        text = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": _SLOT}], tokenize=False, add_generation_prompt=True
        )
        before, found, after = text.partition(_SLOT)
        if not found:
            raise ModelError("its chat template does not show the user's text.", setting="model.name")
        return before, after

    def _encode(self, text: str) -> TokenIds:
        return tuple(self.tokenizer(text, add_special_tokens=False).input_ids)

    def _encode_after(self, anchor: str, text: str) -> TokenIds:
        """Tokenize ``text`` as it continues ``anchor``; on its own if the two would merge."""
        left, both = self._encode(anchor), self._encode(anchor + text)
        return both[len(left) :] if both[: len(left)] == left else self._encode(text)

    @cached_property
    def bos(self) -> TokenIds:
        """The beginning-of-sequence id that must be prepended: none where the chat template writes it itself."""
        bos_id = self.tokenizer.bos_token_id
        if bos_id is None or self.opening_text.startswith(self.tokenizer.bos_token):
            return ()
        adds_bos = bos_id in self.tokenizer("a").input_ids
        return (bos_id,) if adds_bos or not self.tokenizer.chat_template else ()

    def _head_text(self, question: str) -> str:
        text = self.opening_text + question + self.layout.joint + self.layout.frozen_prefix
        # Without a frozen prefix the prompt's own leading blank separates it from the question.
        return text if self.layout.frozen_prefix else text.rstrip(" ")

    def head(self, example: Example) -> TokenIds:
        """Ids of opening, x, joint and frozen prefix; exactly one BOS where the model has one.

        Raises:
            DataError: the question contains chat markup of this model.
        """
        if example.question not in self._heads:
            markup = next((token for token in self._special if token in example.question), None)
            if markup is not None:
                raise DataError(f"row '{example.id}': the question contains '{markup}', which is markup of this model.")
            ids = self.bos + self._encode(self._head_text(example.question))
            bos_id = self.tokenizer.bos_token_id
            if len(ids) > 1 and bos_id is not None and ids[0] == ids[1] == bos_id:
                raise AssertionError("the sequence begins with two BOS tokens")
            self._heads[example.question] = ids
        return self._heads[example.question]

    @cached_property
    def suffix(self) -> TokenIds:
        """Ids between the prompt and the model's reasoning."""
        return self._encode_after(_ANCHOR, self.suffix_text)

    @cached_property
    def extractor(self) -> TokenIds:
        """Ids of glue and extractor."""
        return self._encode_after(".", self.layout.glue + self.layout.extractor)

    def label(self, example: Example) -> TokenIds:
        """Ids of the gold label as it follows the extractor."""
        if example.label not in self._labels:
            ids = self._encode_after(self.layout.extractor, self.layout.label_prefix + example.label)
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
        prefix = self.layout.label_prefix
        return tuple(self._encode_after(self.layout.extractor, prefix + choice) for choice in self.layout.choices)

    def encode_prompt(self, text: str) -> TokenIds:
        """Tokenize a prompt as it continues the frozen prefix."""
        return self._encode_after(self.layout.frozen_prefix or _ANCHOR, text)

    def decode_prompt(self, prompt: TokenIds) -> str:
        """Return the text of a prompt, with its leading blank."""
        anchor = self._encode(self.layout.frozen_prefix or _ANCHOR)
        decode = self.tokenizer.decode
        before = decode(list(anchor), clean_up_tokenization_spaces=False)
        whole: str = decode(list(anchor + prompt), clean_up_tokenization_spaces=False)
        return whole[len(before) :] if whole.startswith(before) else decode(list(prompt))

    def check(self, prompt: TokenIds) -> PromptCheck:
        """Decode a prompt and tell whether its text gives the same ids again."""
        text = self.decode_prompt(prompt)
        return PromptCheck(text, self._encode_after(self.layout.frozen_prefix or _ANCHOR, text) == prompt)

    def build(self, example: Example, prompt: TokenIds, reasoning: TokenIds) -> Sequence:
        """Return the whole sequence of one sample with its spans; a token belongs to the span it begins in."""
        layout = self.layout
        ids: list[int] = []
        spans: dict[str, tuple[int, int]] = {}

        def append(names: tuple[str, ...], texts: tuple[str, ...], tokens: TokenIds, lead: int) -> None:
            starts = [s for s, _ in self.tokenizer("".join(texts), add_special_tokens=False,
                                                   return_offsets_mapping=True)["offset_mapping"]]  # fmt: skip
            starts = [0] * (len(tokens) - len(starts)) + starts if lead else starts
            begin = 0
            for name, text in zip(names, texts, strict=True):
                end = begin + len(text)
                last = name == names[-1]
                count = sum(begin <= s and (s < end or last) for s in starts[: len(tokens)])
                spans[name] = (len(ids), len(ids) + count)
                ids.extend(tokens[len(ids) - offset : len(ids) - offset + count])
                begin = end

        offset = 0
        head_texts = (self.opening_text, example.question, layout.joint, layout.frozen_prefix)
        append(SPANS[:4], head_texts, self.head(example), len(self.bos))
        for name, part in (("prompt", prompt), ("suffix", self.suffix), ("reasoning", reasoning)):
            spans[name] = (len(ids), len(ids) + len(part))
            ids.extend(part)
        offset = len(ids)
        append(("glue", "extractor"), (layout.glue, layout.extractor), self.extractor, 0)
        label = self.label(example)
        spans["label"] = (len(ids), len(ids) + len(label))
        ids.extend(label)
        return Sequence(tuple(ids), spans)
