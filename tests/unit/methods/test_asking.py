"""Asking the writer: again where a reply cannot be read, with the reply begun, and what is read of a reply."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from greater_ray.methods._proposals import START_TAG
from greater_ray.methods._writer import WORDS, Asker, Reader, TextConfig, between, chat, prompt_reader
from greater_ray.types import Conversation, Generation, Message, Usage
from tests.letters import setting, tag


@dataclass
class Noting:
    """Writes what it is told to, call by call, and notes how it was asked."""

    replies: list[list[Generation]]
    calls: list[tuple[int, float, int]] = field(default_factory=list)
    asked: list[Sequence[Conversation]] = field(default_factory=list)
    usage: Usage = field(default_factory=Usage)

    def generate(
        self, conversations: Sequence[Conversation], *, max_tokens: int, temperature: float, seed: int
    ) -> list[Generation]:
        self.calls.append((len(conversations), temperature, seed))
        self.asked.append(conversations)
        return self.replies[len(self.calls) - 1]

    def note_unreadable(self, count: int) -> None:
        self.usage = self.usage + Usage(unreadable=count)


FORM = prompt_reader("tagged")
GOOD, BAD, REFUSED = Generation(tag("yes")), Generation("no"), Generation("", error="too long")


def ask_two(writer: Noting, reader: Reader[str] = FORM, **values) -> tuple[list[str | None], list[str]]:
    problem, _, _ = setting({}, lambda conversation, row: None)
    problem = type(problem)(problem.examples, problem.model, 0, optimizer=writer)
    asker = Asker(problem, TextConfig(**values), 0)
    return asker.gather([chat("a"), chat("b")], "test", reader), asker.notes


@pytest.mark.parametrize(("temperature", "again"), [(0.0, 0.3), (0.2, 0.3), (1.0, 1.0)])
def test_only_unreadable_replies_are_asked_for_again_with_another_seed_and_not_greedily(
    temperature: float, again: float
):
    writer = Noting([[GOOD, BAD], [BAD], [GOOD]])
    texts, notes = ask_two(writer, temperature=temperature, retries=5)
    assert (texts, notes) == (["yes", "yes"], [])
    assert writer.usage.unreadable == 2, "both replies that were asked for again"
    assert [(num, value) for num, value, _ in writer.calls] == [(2, temperature), (1, again), (1, again)]
    assert len({seed for _, _, seed in writer.calls}) == 3


def test_a_reply_that_is_asked_for_again_is_begun_with_the_opening_tag():
    writer = Noting([[GOOD, BAD], [GOOD]])
    ask_two(writer)
    assert writer.asked == [[chat("a"), chat("b")], [(*chat("b"), Message("assistant", START_TAG))]]


def test_where_any_words_will_do_no_reply_is_begun():
    writer = Noting([[GOOD, Generation(" ")], [GOOD]])
    ask_two(writer, WORDS)
    assert writer.asked[1] == [chat("b")]


def test_an_error_is_noted_once_and_ends_as_unreadable():
    writer = Noting([[REFUSED, GOOD], [REFUSED]])
    assert ask_two(writer, retries=1) == ([None, "yes"], ["the writer gave nothing: too long"])
    assert writer.usage.unreadable == 2


@pytest.mark.parametrize(
    ("text", "truncated", "expected"),
    [
        ("<a>all", True, None),
        ("<a>\n\nall", True, None),
        ("<a>all\n\nand mo", True, "all"),
        ("<a>all", False, "all"),
        ("<a>all\n\nBye", False, "all"),
        ("<a>all</a> and mo", True, "all"),
        ("<a>one</a> then <a>two</a> then <a>three", False, "two"),
        ("<a>all</a></a>", False, "all"),
        ("<a>all</a> ends with </a>, as asked", False, "all"),
        ("<a> or <a>all</a>", False, "all"),
        ("</a> goes before <a>all", False, "all"),
        ("all\n\nand mo", True, None),
        ("all", False, None),
    ],
)
def test_the_last_whole_pair_counts_and_a_text_without_its_closing_tag_ends_at_a_blank_line_or_with_the_reply(
    text: str, truncated: bool, expected: str | None
):
    assert between("<a>", "</a>").read(Generation(text, truncated)) == expected
