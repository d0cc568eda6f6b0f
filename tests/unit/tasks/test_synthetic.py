"""Made rows: their labels computed a second time, by other means."""

import re

import pytest

from greater_ray.config import TaskConfig
from greater_ray.errors import ConfigError
from greater_ray.tasks import available_tasks, load_task
from greater_ray.types import Example

# The rows of the subjects of MMLU are made alike.
MADE = [
    t.name for t in available_tasks() if t.synthetic and (not t.name.startswith("mmlu/") or t.name == "mmlu/anatomy")
]
ROWS = {"mmlu/anatomy": 100, "webnlg": 500}


def all_rows(name: str, seed: int = 0) -> list[Example]:
    task = load_task(TaskConfig(name=name, data="synthetic", seed=seed))
    return task.train() + task.dev() + task.test()


def evaluated(question: str) -> str:
    """Value of a Boolean or arithmetic expression, by Python itself."""
    return str(eval(re.sub(r" (is|=)$", "", question)))


def walked(question: str) -> str:
    """Walk cell by cell on a grid."""
    x = y = 0
    facing = ["north", "east", "south", "west"]
    moves = {"north": (0, 1), "east": (1, 0), "south": (0, -1), "west": (-1, 0)}
    sides = {"forward": 0, "right": 1, "backward": 2, "left": 3}
    heading = 0
    for sentence in question.split("\n")[0].split("? ")[1].split(". "):
        turn = re.match(r"Turn (left|right|around)", sentence)
        step = re.match(r"Take (\d+) steps?(?: (\w+))?", sentence)
        if turn:
            heading = (heading + {"right": 1, "around": 2, "left": 3}[turn[1]]) % 4
        elif step:
            dx, dy = moves[facing[(heading + sides[step[2] or "forward"]) % 4]]
            for _ in range(int(step[1])):
                x, y = x + dx, y + dy
        else:
            assert sentence == "Always face forward"
    return "Yes" if (x, y) == (0, 0) else "No"


KINDS = {
    "tools": "hammer wrench chisel saw axe drill",
    "garments": "scar coat sweater glove apron hat",
    "insects": "beetle moth ant wasp cricket dragonfl",
    "dishes": "bowl plate teapot saucer jug mug",
}


def counted(question: str) -> str:
    """Look every listed thing up in a list of stems written here."""
    listed, kind = re.fullmatch(r"I have (.*)\. How many (\w+) do I have\?", question).groups()
    numbers = {"a": 1, "an": 1, "two": 2, "three": 3, "four": 4, "five": 5}
    total = 0
    for item in re.split(r",? and |, ", listed):
        count, thing = item.split(" ")
        total += numbers[count] if any(thing.startswith(stem) for stem in KINDS[kind].split()) else 0
    return str(total)


def believed(question: str) -> str:
    """Follow the chain of statements as a table of who is honest."""
    honest: dict[str, bool] = {}
    for sentence in question.removeprefix("Question: ").split(". "):
        said = re.match(r"(\w+) says (\w+) (lies|tells the truth)", sentence)
        plain = re.match(r"(\w+) (lies|tells the truth)", sentence)
        asked = re.match(r"Does (\w+) tell the truth\?", sentence)
        if said:
            statement_is_true = honest[said[2]] is (said[3] == "tells the truth")
            honest[said[1]] = statement_is_true
        elif plain:
            honest[plain[1]] = plain[2] == "tells the truth"
        elif asked:
            return "Yes" if honest[asked[1]] else "No"
    raise AssertionError(question)


def swapped(question: str) -> str:
    """Move the things about as the sentences say."""
    options = dict(re.findall(r"^\((\w)\) (.*)$", question, re.MULTILINE))
    start = re.search(r"To begin with, (.*)\.\n", question)[1]
    holder = {}
    for part in re.split(r", and |, ", start):
        thing = next(thing for thing in options.values() if part.endswith(f" {thing}"))
        holder[thing] = part.split()[0]
    for a, b in re.findall(r"(?:First|Then|Finally), (\w+) and (\w+) ", question):
        holder = {thing: {a: b, b: a}.get(person, person) for thing, person in holder.items()}
    asked = re.search(r"At the end, (\w+) ", question)[1]
    return next(f"({letter})" for letter, thing in options.items() if holder[thing] == asked)


def computed(question: str) -> str:
    """Find the option by arithmetic."""
    asked, *lines = question.split("\n")
    options = dict(re.fullmatch(r"\((\w)\) (\d+)", line).groups() for line in lines)
    numbers = {letter: int(number) for letter, number in options.items()}
    said = re.fullmatch(r"What is (\d+) (plus|times) (\d+)\?", asked)
    a, b = (int(said[1]), int(said[3])) if said else (0, 0)
    right = max(numbers.values()) if said is None else a + b if said[2] == "plus" else a * b
    return next(f"({letter})" for letter, number in numbers.items() if number == right)


# What stands in the clause of a pronoun, and whether that is said of the thing that is named first.
SAID_OF_THE_FIRST = {
    "not fit": {"large": True, "small": False}, "broke through": {"heavy": True, "weak": False},
    "not pass": {"wide": True, "narrow": False}, "cut through": {"sharp": True, "soft": False},
    "gave up": {"slow": True, "fast": False}, "asked": {"know": True}, "thanked": {"got": True, "given": False},
    "not lift": {"weak": True, "heavy": False},
}  # fmt: skip


def referred(question: str) -> str:
    """Look up who a clause is about."""
    sentence, *options = question.split("\n")
    clause = sentence.split(" because ")[1]
    words = next(words for verb, words in SAID_OF_THE_FIRST.items() if verb in sentence)
    first = next(said for word, said in words.items() if re.search(rf"\b{word}\b", clause))
    things = {option[4:].removeprefix("The "): option[:3] for option in options}
    body = sentence.split(": ")[1].split(" because ")[0]
    by_place = sorted(things, key=lambda thing: re.search(rf"\b{thing}\b", body).start())
    return things[by_place[0] if first else by_place[1]]


def told(question: str) -> str:
    """The first reference: every triple said in the way of a table written here."""
    ways = {
        "birthPlace": "was born in", "residence": "lives in", "occupation": "works as a", "employer": "is employed by",
        "birthYear": "was born in",
    }  # fmt: skip
    triples = [line.replace("_", " ").split(" | ") for line in question.split("Triples:\n")[1].split("\n")]
    return " ".join(f"{subject} {ways[predicate]} {thing}." for subject, predicate, thing in triples)


SOLVERS = {
    "bbh/boolean_expressions": evaluated,
    "bbh/multistep_arithmetic_two": evaluated,
    "bbh/navigate": walked,
    "bbh/object_counting": counted,
    "bbh/tracking_shuffled_objects_three_objects": swapped,
    "bbh/web_of_lies": believed,
    "mmlu/anatomy": computed,
    "wsc": referred,
    "webnlg": told,
}


def test_every_generator_has_a_second_solver_here() -> None:
    assert set(SOLVERS) == set(MADE)


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("seed", [0, 1, 7])
def test_every_made_label_is_right(name: str, seed: int) -> None:
    for row in all_rows(name, seed):
        assert SOLVERS[name](row.question) == row.target, row


@pytest.mark.parametrize("name", MADE)
def test_made_rows_are_many_different_and_balanced(name: str) -> None:
    rows = all_rows(name)
    assert len(rows) == len({row.question for row in rows}) == ROWS.get(name, 250)
    most = max(sum(row.label == label for row in rows) for label in {row.label for row in rows})
    assert most <= 0.6 * len(rows)


@pytest.mark.parametrize("name", MADE)
def test_made_rows_depend_on_the_seed_alone(name: str) -> None:
    assert all_rows(name, 3) == all_rows(name, 3)
    assert all_rows(name, 3) != all_rows(name, 4)


@pytest.mark.parametrize("name", MADE)
def test_made_rows_never_pass_for_the_benchmark(name: str) -> None:
    task = load_task(TaskConfig(name=name, data="synthetic"))
    assert task.name == name
    assert task.title == f"{name} (synthetic)"
    assert task.provenance["source"] == "synthetic"
    assert all(row.id.startswith("synthetic/") for row in task.train())


@pytest.mark.parametrize("name", ["bbh/snarks", "gsm8k", "folio"])
def test_a_task_without_generator_says_which_have_one(name: str) -> None:
    with pytest.raises(ConfigError, match=r"task.data: .* has no synthetic rows; .*bbh/"):
        load_task(TaskConfig(name=name, data="synthetic"))


def test_subjects_have_rows_of_their_own() -> None:
    assert {row.question for row in all_rows("mmlu/anatomy")} != {row.question for row in all_rows("mmlu/virology")}
