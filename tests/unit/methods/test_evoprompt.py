"""EvoPrompt's rules, for the genetic algorithm and for differential evolution; expected values are by hand."""

import random
from collections.abc import Sequence
from typing import Any

import pytest

from greater_ray.methods import _evolution_prompts as prompts
from greater_ray.methods import evoprompt_de as de
from greater_ray.methods import evoprompt_ga as ga
from greater_ray.methods._evolution import EvolutionState, fitness_rows, top
from greater_ray.methods._proposals import Proposal
from tests.letters import archive, asked, asked_at, setting, statuses, steps, tag

SEEDS = ("Seed a", "Seed b", "Seed c", "Seed d", "Seed e")
SCORES = {"Seed a": 0.1, "Seed b": 0.7, "Seed c": 0.5, "Seed d": 0.5, "Seed e": 0.0, "Seed b again": 0.6}
SMALL: dict[str, Any] = {"initial_prompt": SEEDS[0], "seed_prompts": SEEDS[1:], "population": 4, "retries": 0}


def ga_config(**values) -> ga.EvoPromptGaConfig:
    return ga.EvoPromptGaConfig(**(SMALL | values))


def de_config(**values) -> de.EvoPromptDeConfig:
    return de.EvoPromptDeConfig(**(SMALL | values))


def kind(conversation) -> str:
    text = asked(conversation)
    names = {prompts.GA_TASK: "breed", prompts.DE_TASK: "differ", prompts.PARAPHRASE: "paraphrase"}
    return next(name for words, name in names.items() if text.startswith(words))


def writing(*children: str):
    """A paraphrase is the prompt with "again"; the n-th child is the n-th text."""
    left = iter(children)

    def reply(conversation, row):
        if kind(conversation) == "paraphrase":
            return tag(asked(conversation).rpartition("Prompt: ")[2] + " again")
        return tag(next(left))

    return reply


class Dice(random.Random):
    """Draws what the test says: numbers in [0, 1), and samples by places."""

    def __init__(self, numbers: Sequence[float] = (), samples: Sequence[Sequence[int]] = ()) -> None:
        super().__init__(0)
        self.numbers, self.samples = iter(numbers), iter(samples)

    def random(self) -> float:
        return next(self.numbers)

    def sample(self, population, k, *, counts=None):
        places = next(self.samples)
        assert len(places) == k
        return [population[place] for place in places]


# -- the first population ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("plugin", "config"), [(ga.PLUGIN, ga_config()), (de.PLUGIN, de_config())])
def test_the_best_half_of_the_seeds_and_their_paraphrases_are_the_first_population(plugin, config):
    problem, model, _ = setting(SCORES, writing())
    state, infos = steps(plugin, problem, config, 3)
    assert isinstance(state, EvolutionState)
    assert [len(info.candidates) for info in infos] == [4, 1, 2], "no step scores more than a population"
    assert [prompt for prompt, _ in model.answered] == [*SEEDS, "Seed b again", "Seed c again"]
    # 0.7 is the best seed; of the two with 0.5 the earlier one is kept.
    assert [state.archive[number].text for number in state.population] == [
        "Seed b",
        "Seed c",
        "Seed b again",
        "Seed c again",
    ]
    assert (state.phase, state.initial_loss) == ("evolution", pytest.approx(0.9))
    assert [s.parent for s in state.archive][-2:] == [1, 2]


def test_a_failed_paraphrase_is_replaced_by_the_next_best_seed():
    problem, _, _ = setting(SCORES, lambda conversation, row: tag("Seed b again") if row == 0 else "no tags")
    state, infos = steps(ga.PLUGIN, problem, ga_config(), 3)
    assert isinstance(state, EvolutionState)
    assert [state.archive[n].text for n in state.population] == ["Seed b", "Seed c", "Seed b again", "Seed d"]
    assert infos[2].notes == ("paraphrases that cannot be used: 1; the next best seeds stand in",)


def test_fitness_is_measured_on_the_same_random_dev_rows_in_the_whole_run():
    problem, model, _ = setting(SCORES, writing("Child"), dev=20)
    config = de_config(num_rows=5)
    steps(de.PLUGIN, problem, config, 4)
    assert {num for _, num in model.answered} == {5}
    rows = fitness_rows(problem, config)
    assert rows == fitness_rows(problem, config)
    assert [int(row.id[1:]) for row in rows] == sorted({int(row.id[1:]) for row in rows})
    other, _, _ = setting(SCORES, writing(), dev=20, seed=1)
    assert fitness_rows(other, config) != rows
    assert len(fitness_rows(problem, de_config())) == 20, "as many as there are, up to 50"


# -- the genetic algorithm ---------------------------------------------------------------------------------------------


def test_the_wheel_gives_places_in_proportion_to_fitness():
    # The scores 0.2, 0.5, 0, 0.3 share the circle as [0, .2), [.2, .7), nothing, [.7, 1).
    scores = [0.2, 0.5, 0.0, 0.3]
    assert ga.wheel(scores, 6, Dice([0.0, 0.19, 0.2, 0.69, 0.71, 0.99])) == [0, 0, 1, 1, 3, 3]
    assert ga.wheel([1.0, 3.0], 2, Dice([0.24, 0.26])) == [0, 1], "shares, not scores"


def test_the_wheel_is_even_where_all_fitness_is_zero():
    assert ga.wheel([0.0, 0.0, 0.0, 0.0], 4, Dice([0.1, 0.3, 0.6, 0.9])) == [0, 1, 2, 3]


MEMBERS = archive(("a", 0.2), ("b", 0.5), ("c", 0.0), ("d", 0.3))


def parents(selection: str, num: int, dice: Dice) -> list[str]:
    return [first.text + second.text for first, second in ga.select(MEMBERS, selection, num, dice)]


def test_parents_by_wheel_are_two_of_a_pool_and_may_be_the_same_prompt():
    # The pool is b, b, d, a: the second child has b twice.
    dice = Dice([0.3, 0.5, 0.8, 0.1], [(2, 0), (1, 0)])
    assert parents("wheel", 2, dice) == ["db", "bb"]


def test_parents_by_tournament_are_the_better_of_two():
    # c or a: a; b or d: b. Then d or c: d; a or d: d.
    dice = Dice(samples=[(2, 0), (1, 3), (3, 2), (0, 3)])
    assert parents("tournament", 2, dice) == ["ab", "dd"]


def test_parents_at_random_are_any_two():
    assert parents("random", 2, Dice(samples=[(2, 0), (1, 3)])) == ["ca", "bd"]
    alone = ga.select(MEMBERS[:1], "wheel", 2, random.Random(0))
    assert [first.text + second.text for first, second in alone] == ["aa", "aa"]


def survivors(survival: str, statuses: Sequence[str]) -> str:
    """Members a .. d above, children e (0.3), f (0.6), ...: which letters are in the next population."""
    grown = archive(("a", 0.2), ("b", 0.5), ("c", 0.0), ("d", 0.3), ("e", 0.3), ("f", 0.6), ("g", 0.0), ("h", 0.0))
    proposals = [Proposal("", status) for status in statuses]
    new = grown[4 : 4 + sum(p.usable for p in proposals)]
    numbers = ga.survive(grown[:4], proposals, new, ga_config(survival=survival))
    return "".join(grown[number].text for number in numbers)


def test_the_best_of_old_and_new_survive_and_among_equals_the_older():
    assert survivors("best", ["new", "new", "new", "new"]) == "fbde"
    assert survivors("best", ["empty"] * 4) == "bdac"


def test_or_every_child_takes_the_place_of_its_member_if_it_can_be_used():
    assert survivors("replace", ["new", "new", "new", "new"]) == "efgh"
    assert survivors("replace", ["duplicate", "new", "empty", "new"]) == "aecf"


def test_a_generation_of_the_genetic_algorithm():
    problem, _, writer = setting(SCORES | {"Child b": 0.8}, writing("Child a", "Child b", "Seed B", "Child c"))
    state, infos = steps(ga.PLUGIN, problem, ga_config(), 4)
    assert isinstance(state, EvolutionState)
    assert statuses(infos[3]) == ["scored", "scored", "duplicate", "scored"]
    assert [state.archive[n].text for n in state.population] == ["Child b", "Seed b", "Seed b again", "Seed c"]
    assert (infos[3].prompt_text, infos[3].accepted) == (" Child b", 1)
    assert (state.generation, state.failed) == (1, 1)
    assert state.result == problem.encode("Child b")
    pairs = [asked(c) for c in writer.asked if kind(c) == "breed"]
    assert len(pairs) == 4, "one child per place"
    assert len(set(state.population)) == 4


def test_where_all_children_are_duplicates_a_warmer_attempt_follows_and_its_children_have_the_same_parents():
    children = ["seed a", "seed b", "seed c", "seed d", "seed e", "Child b", "Child c", "seed e"]
    problem, _, writer = setting(SCORES | {"Child b": 0.9}, writing(*children))
    state, infos = steps(ga.PLUGIN, problem, ga_config(survival="replace"), 4)
    assert isinstance(state, EvolutionState)
    assert asked_at(writer) == [(2, 0.5), (4, 0.5), (4, 0.8)]
    assert len({seed for *_, seed in writer.settings}) == 3
    assert statuses(infos[3]) == ["duplicate"] * 5 + ["scored"] * 2 + ["duplicate"]
    # The second and third child of the second attempt take the second and third place.
    assert [state.archive[n].text for n in state.population] == ["Seed b", "Child b", "Child c", "Seed c again"]
    assert state.failed == 6
    pairs = [asked(c).rpartition("Parent 1: ")[2].splitlines()[0] for c in writer.asked if kind(c) == "breed"]
    assert pairs[:4] == pairs[4:]
    assert [state.archive[s.parent or 0].text for s in state.archive[-2:]] == pairs[1:3]


def test_where_all_paraphrases_are_duplicates_the_warmer_ones_fill_the_population():
    texts = iter(["seed a", "seed e", "Seed b again", "seed b"])
    problem, _, writer = setting(SCORES, lambda conversation, row: tag(next(texts)))
    state, infos = steps(ga.PLUGIN, problem, ga_config(), 3)
    assert isinstance(state, EvolutionState)
    assert asked_at(writer) == [(2, 0.5), (2, 0.8)]
    assert [state.archive[n].text for n in state.population] == ["Seed b", "Seed c", "Seed b again", "Seed d"]
    assert state.archive[-1].parent == 1
    assert infos[2].notes == ("paraphrases that cannot be used: 1; the next best seeds stand in",)


def test_where_no_reply_can_be_used_the_best_seed_is_the_result_and_the_notes_say_so():
    for plugin, config in ((ga.PLUGIN, ga_config(retries=1)), (de.PLUGIN, de_config(retries=1))):
        problem, _, writer = setting(SCORES, lambda conversation, row: "no tags")
        state, infos = steps(plugin, problem, config, 4)
        assert isinstance(state, EvolutionState)
        assert state.result == problem.encode("Seed b")
        assert [state.archive[n].text for n in top(state.archive, 4)] == ["Seed b", "Seed c", "Seed d", "Seed a"]
        assert infos[3].notes[-1].endswith("stays")
        assert {status for i in infos for status in i.written} == {"unreadable"}, "seeds are no proposals"
        children = len(infos[3].candidates)
        assert (state.failed, len(writer.asked)) == (2 + children, 2 * (2 + children)), "each asked for once more"
    problem, _, _ = setting({}, lambda conversation, row: None)
    state, infos = steps(ga.PLUGIN, problem, ga_config(), 4)
    assert state.result == problem.encode("Seed a"), "the start, where no seed is better"
    assert infos[3].notes == (
        "the writer gave nothing: refused",
        "no child of this generation can be used: the population stays",
    )


# -- differential evolution --------------------------------------------------------------------------------------------

EVER = archive(("best", 0.9), ("p", 0.1), ("q", 0.2), ("r", 0.3), ("s", 0.4), ("also best", 0.9))


def cast(place: int, donor: str, drawn: tuple[int, int, int], population: tuple[int, ...] = (1, 2, 3, 4)) -> str:
    roles = de.roles(EVER, population, place, donor, Dice(samples=[drawn]))
    return " ".join(role.text for role in roles)


def test_a_and_b_are_other_members_c_is_the_best_ever_and_the_member_itself_is_the_basic_prompt():
    # The others of q are p, r, s.
    assert cast(1, "best", (2, 0, 1)) == "s p best q"
    assert cast(0, "best", (0, 1, 2)) == "q r best p"


def test_or_c_is_the_third_member_that_was_drawn():
    assert cast(1, "random", (2, 0, 1)) == "s p r q"


def test_places_are_drawn_so_the_same_prompt_can_play_two_parts():
    assert cast(0, "random", (0, 1, 2), (1, 2, 2, 3)) == "q q r p"
    few = de.roles(EVER, (1, 2), 0, "best", random.Random(0))
    assert [role.text for role in few] == ["q", "q", "best", "p"], "fewer than three others"
    assert de.roles(EVER, (1,), 0, "best", random.Random(0)).a.text == "p"


def test_a_child_must_be_strictly_better_and_the_best_ever_changes_inside_a_generation():
    # The population is b (0.7), c (0.5), b again (0.6), c again (0). The children are worse, equal, better, equal.
    scores = SCORES | {"Child 1": 0.6, "Child 2": 0.5, "Child 3": 0.9, "Child 4": 0.0}
    problem, _, writer = setting(scores, writing("Child 1", "Child 2", "Child 3", "Child 4", "Child 5"))
    state, infos = steps(de.PLUGIN, problem, de_config(), 8)
    assert isinstance(state, EvolutionState)
    questions = [asked(c).rpartition("Now do")[2] for c in writer.asked if kind(c) == "differ"]
    basic = [q.partition("Basic prompt: ")[2].splitlines()[0] for q in questions]
    assert basic == ["Seed b", "Seed c", "Seed b again", "Seed c again", "Seed b"]
    donors = [q.partition("Prompt 3: ")[2].splitlines()[0] for q in questions]
    assert donors == ["Seed b", "Seed b", "Seed b", "Child 3", "Child 3"]
    assert [state.archive[n].text for n in state.population] == ["Seed b", "Seed c", "Child 3", "Seed c again"]
    assert [state.archive[n].text for n in state.children] == ["Seed b"]
    assert infos[3].notes == ("generation 1, member 1",)
    assert infos[7].notes == ("generation 2, member 1",)
    for member, question in zip(basic[:4], questions[:4], strict=True):
        drawn = [question.partition(f"Prompt {k}: ")[2].splitlines()[0] for k in (1, 2)]
        others = {"Seed b", "Seed c", "Seed b again", "Seed c again"} - {member}
        assert set(drawn) <= others, "others of the population as the generation found it"
        assert len(set(drawn)) == 2


def test_a_child_that_is_a_duplicate_is_written_once_more_and_warmer():
    problem, _, writer = setting(SCORES | {"Good": 1.0}, writing("seed a", "Good", "seed a", "seed d"))
    state, infos = steps(de.PLUGIN, problem, de_config(), 5)
    assert asked_at(writer) == [(2, 0.5), (1, 0.5), (1, 0.8), (1, 0.5), (1, 0.8)]
    assert [statuses(info) for info in infos[3:]] == [["duplicate", "scored"], ["duplicate", "duplicate"]]
    assert infos[3].accepted == 1
    assert infos[4].notes == ("generation 1, member 2", "the child cannot be used: the member stays")
    assert (state.archive[-1].parent, state.failed) == (1, 3)


def test_a_known_better_prompt_is_found():
    problem, _, _ = setting(SCORES | {"Good": 1.0}, writing("Good"))
    state, infos = steps(de.PLUGIN, problem, de_config(), 4)
    assert state.result == problem.encode("Good")
    assert infos[3].loss == 0.0
    assert infos[3].accepted == 0


# -- what the writer is asked ------------------------------------------------------------------------------------------


def test_the_request_for_a_child_of_two_shows_an_example_and_ends_at_the_first_step():
    ((_, text),) = prompts.breed("Use {braces}.", "Parent 1: <SLOT>")
    assert text.startswith(prompts.GA_TASK)
    assert prompts.GA_EXAMPLE in text
    assert text.endswith("Parent 1: Use {braces}.\nParent 2: Parent 1: <SLOT>\n\nStep 1.")


def test_the_request_for_a_child_by_difference_names_all_four_prompts():
    ((_, text),) = prompts.differ("A", "B", "C", "D")
    assert prompts.DE_EXAMPLE in text
    assert text.endswith("Prompt 1: A\nPrompt 2: B\nPrompt 3: C\nBasic prompt: D\n\nStep 1.")


def test_a_paraphrase_is_asked_for_by_the_prompt_alone():
    ((_, text),) = prompts.paraphrase("Think {it} over.")
    assert text == f"{prompts.PARAPHRASE}\n\nPrompt: Think {{it}} over."


def test_a_child_that_copies_the_example_is_refused():
    copied = "Translate the sentence to French, in the words that a native speaker would choose in daily life."
    problem, _, _ = setting(SCORES, writing(copied))
    _, infos = steps(de.PLUGIN, problem, de_config(), 4)
    assert statuses(infos[3]) == ["copied"]


def test_the_default_seeds_are_distinct_prompts_that_pass_the_guards():
    problem, _, _ = setting({}, writing())
    config = ga.EvoPromptGaConfig()
    state, _ = steps(ga.PLUGIN, problem, config, 2)
    assert (len(state.archive), state.failed) == (20, 0)


def test_presets_count_the_steps_of_the_first_population():
    # 20 seeds in tens, the paraphrases, and ten generations: of ten children at once, or one by one.
    assert ga.PLUGIN.presets["paper"]["budget"] == {"steps": 2 + 1 + 10}
    assert de.PLUGIN.presets["paper"]["budget"] == {"steps": 2 + 1 + 10 * 10}


def test_the_defaults_are_those_of_the_scripts():
    values = ga.EvoPromptGaConfig()
    assert (values.population, values.temperature, values.num_rows) == (10, 0.5, 50)
    assert (values.selection, values.survival, de.EvoPromptDeConfig().donor) == ("wheel", "best", "best")
