"""Cutting and finding: what methods share that write a batch of prompts per step."""

from greater_ray.methods._rounds import cut, find, shuffled
from tests.letters import archive, setting


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
