"""Asking again, cutting and finding: what methods share that write a batch of prompts per step."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from greater_ray.methods._rounds import between, cut, find, readable, shuffled
from greater_ray.methods._text import TextConfig, chat
from greater_ray.types import Conversation, Generation, Usage
from tests.letters import archive, setting, tag


@dataclass
class Noting:
    """Writes what it is told to, call by call, and notes how it was asked."""

    replies: list[list[Generation]]
    calls: list[tuple[int, float, int]] = field(default_factory=list)
    usage: Usage = field(default_factory=Usage)

    def generate(
        self, conversations: Sequence[Conversation], *, max_tokens: int, temperature: float, seed: int
    ) -> list[Generation]:
        self.calls.append((len(conversations), temperature, seed))
        return self.replies[len(self.calls) - 1]

    def note_unreadable(self, count: int) -> None:
        self.usage = self.usage + Usage(unreadable=count)


def ask_two(writer: Noting, **values) -> tuple[list[str | None], list[str]]:
    problem, _, _ = setting({}, lambda conversation, row: None)
    problem = type(problem)(problem.examples, problem.model, 0, optimizer=writer)
    notes: list[str] = []
    return readable(problem, [chat("a"), chat("b")], TextConfig(**values), 0, "test", notes), notes


GOOD, BAD, REFUSED = Generation(tag("yes")), Generation("no"), Generation("", error="too long")


@pytest.mark.parametrize(("temperature", "again"), [(0.0, 0.7), (0.2, 0.2), (1.0, 1.0)])
def test_only_unreadable_replies_are_asked_for_again_with_another_seed_and_not_greedily(
    temperature: float, again: float
):
    writer = Noting([[GOOD, BAD], [BAD], [GOOD]])
    texts, notes = ask_two(writer, temperature=temperature, retries=5)
    assert (texts, notes) == (["yes", "yes"], [])
    assert writer.usage.unreadable == 2, "both replies that were asked for again"
    assert [(num, value) for num, value, _ in writer.calls] == [(2, temperature), (1, again), (1, again)]
    assert len({seed for _, _, seed in writer.calls}) == 3


def test_an_error_is_noted_once_and_ends_as_unreadable():
    writer = Noting([[REFUSED, GOOD], [REFUSED]])
    assert ask_two(writer, retries=1) == ([None, "yes"], ["the writer: too long"])
    assert writer.usage.unreadable == 2


def test_a_reply_that_was_cut_off_inside_its_tags_is_unreadable():
    read = between("<a>", "</a>")
    assert read(Generation("<a>all", truncated=True)) is None
    assert read(Generation("<a>all", truncated=False)) == "all", "the writer forgot the closing tag"
    assert read(Generation("<a>all</a> and mo", truncated=True)) == "all"


def test_a_long_text_loses_its_middle():
    assert cut("a b c", 3) == "a b c"
    assert cut("a b c d", 3) == "a b [...] d"
    assert cut("a b c d", 1) == "a [...]"


def test_a_prompt_is_found_whatever_its_case_and_blanks():
    known = archive(("Think  twice.", 0.5), ("Other", 0.1))
    found = find(known, "think twice. ")
    assert found is not None
    assert found.number == 0
    assert find(known, "think") is None


def test_an_epoch_has_an_order_of_its_own():
    problem, _, _ = setting({}, lambda conversation, row: None)
    assert shuffled(problem, 0) == shuffled(problem, 0)
    assert shuffled(problem, 0) != shuffled(problem, 1)
    assert sorted(row.id for row in shuffled(problem, 1)) == sorted(row.id for row in problem.examples)
