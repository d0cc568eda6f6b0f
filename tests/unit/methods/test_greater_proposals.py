"""Which words GReaTer proposes (paper Eq. 3, 4), on a model whose beliefs are a table; expected sets are by hand."""

from itertools import combinations

import pytest

from greater_ray.methods.greater import GreaterConfig, propose
from greater_ray.protocols import Problem
from greater_ray.work import Proposals, TokenTexts
from tests.scripted import WORDS, ScriptedModel, config, evaluated, rows, state_at, step


def proposed(model: ScriptedModel, cfg: GreaterConfig, *, seed: int = 0, step: int = 0, num_rows: int = 4) -> set[str]:
    examples = rows(num_rows)
    state = state_at(model, 0, step=step)
    lists = tuple(model.ask(Proposals(examples, state.prompt_ids, 0, 8, "none")))
    model.asked.clear()
    return set(model.ask(TokenTexts(propose(Problem(examples, model, seed), cfg, state, lists, []))))


# Four rows; any two of them have exactly one word in common among their first three.
PAIRS = {
    "r0": (" think", " step", " by"),
    "r1": (" think", " then", " and"),
    "r2": (" step", " then", " check"),
    "r3": (" by", " and", " check"),
}
COMMON = {" think", " step", " by", " then", " and", " check"}


def test_one_intersection_is_what_two_random_rows_share():
    model = ScriptedModel(ranking=PAIRS)
    cfg = config(top_k=3, proposal_samples=2)
    seen = [proposed(model, cfg, seed=seed) for seed in range(40)]
    assert all(len(found) == 1 for found in seen)
    assert set().union(*seen) == COMMON, "every pair of rows must be drawn some time"


def test_several_intersections_are_united():
    model = ScriptedModel(ranking=PAIRS)
    seen = [proposed(model, config(top_k=3, proposal_samples=2, intersections=2), seed=seed) for seed in range(20)]
    assert {len(found) for found in seen} == {1, 2}, "two pairs, or the same pair twice"
    assert proposed(model, config(top_k=3, proposal_samples=2, intersections=60)) == COMMON


def test_more_samples_than_rows_means_all_rows():
    model = ScriptedModel(ranking={"r0": (" think", " by"), "r1": (" by", " step")})
    assert proposed(model, config(top_k=2, proposal_samples=5), num_rows=2) == {" by"}


@pytest.mark.parametrize(
    ("fewest", "expected"),
    [
        (1, {" think"}),  # k = 2: {think}
        (2, {" think", " step"}),  # k = 4: think step by then / think and step check
        (3, {" think", " step", " by", " then", " and", " check"}),  # k = 6
    ],
)
def test_k_grows_by_two_until_there_are_enough(fewest: int, expected: set[str]):
    model = ScriptedModel(
        ranking={
            "r0": (" think", " step", " by", " then", " and", " check"),
            "r1": (" think", " and", " step", " check", " by", " then"),
        }
    )
    cfg = config(top_k=2, proposal_samples=2, min_candidates=fewest)
    assert proposed(model, cfg, num_rows=2) == expected
    assert model.questions("proposals") == []


def test_deeper_lists_are_asked_for_when_the_given_ones_are_used_up():
    model = ScriptedModel(ranking={"r0": WORDS[:8], "r1": WORDS[:4] + WORDS[4:8][::-1]})
    examples, notes = rows(2), []
    state = state_at(model, 1)
    shallow = tuple(model.ask(Proposals(examples, state.prompt_ids, 1, 2, "none")))
    model.asked.clear()
    cfg = config(top_k=2, proposal_samples=2, min_candidates=3, token_filter="letters")
    tokens = propose(Problem(examples, model, 0), cfg, state, shallow, notes)
    assert model.ask(TokenTexts(tokens)) == list(WORDS[:4])
    assert model.questions("proposals") == [(1, 16, "letters")]
    assert notes == []


def test_a_used_up_vocabulary_ends_the_search_with_what_was_found():
    model = ScriptedModel(ranking={"r0": (" think", " step"), "r1": (" step", " by")})
    _, info = step(model, config(top_k=2, min_candidates=6), num_rows=2)
    assert set(evaluated(info)) == {" think", " step"}, "the one they share, and the current token"
    assert info.notes == ("few candidates: the vocabulary is used up",)


def test_a_k_larger_than_the_vocabulary_proposes_the_whole_vocabulary():
    model = ScriptedModel(ranking={"": (" then", " and")})
    _, info = step(model, config(top_k=50))
    assert set(evaluated(info)) == {" then", " and", " think"}


def test_same_seed_same_path_and_another_seed_another_subset():
    def path(seed: int) -> list[list[str]]:
        model = ScriptedModel(ranking=PAIRS)
        cfg = config(top_k=3, proposal_samples=2)
        state, found = None, []
        for _ in range(8):
            state, info = step(model, cfg, state, seed=seed)
            found.append(evaluated(info))
        return found

    assert path(0) == path(0)
    assert path(0) != path(1)
    drawn = [proposed(ScriptedModel(ranking=PAIRS), config(top_k=3, proposal_samples=2), step=k) for k in range(12)]
    assert len(set(map(frozenset, drawn))) > 1, "every step draws anew"


def test_words_that_would_merge_are_left_out_only_with_the_filter():
    # After " step" the token "s" would be read back as " steps".
    model = ScriptedModel(ranking={"": ("s", " then", " by")})
    state = state_at(model, 2)
    assert set(evaluated(step(model, config(), state)[1])) == {" then", " by"}
    assert set(evaluated(step(model, config(filter_round_trip=False), state)[1])) == {"s", " then", " by"}


def test_the_previous_token_can_be_banned():
    model = ScriptedModel(ranking={"": (" step", " then", " by")})
    state = state_at(model, 2)
    assert " step" in evaluated(step(model, config(), state)[1])
    assert " step" not in evaluated(step(model, config(ban_previous_token=True), state)[1])


def test_the_previous_token_takes_no_place_among_the_k_likeliest():
    model = ScriptedModel(ranking={"": (" step", " then", " by", " and")})
    state = state_at(model, 2)
    for banned, expected in ((False, {" step", " then", " by"}), (True, {" then", " by", " and"})):
        cfg = config(top_k=3, ban_previous_token=banned, num_evaluated=9)
        assert set(evaluated(step(model, cfg, state)[1])) == expected


def test_at_the_first_position_the_previous_token_is_the_last_one():
    model = ScriptedModel(ranking={"": (" by", " then")})
    assert " by" not in evaluated(step(model, config(ban_previous_token=True), state_at(model, 0))[1])


def test_every_pair_shares_one_word():
    # The table above is what the expected sets rest on.
    for a, b in combinations(PAIRS.values(), 2):
        assert len(set(a) & set(b)) == 1
