"""Write a CSV of 200 made support tickets with five labels: `python examples/tickets.py tickets.csv`.

The texts are put together from parts with a fixed seed, so the file is the same everywhere.
"""

import csv
import random
import sys
from pathlib import Path

OPENINGS = ("Hello,", "Hi there,", "Good morning,", "Dear team,", "Please help:")
THINGS = ("the blue lamp", "a coffee grinder", "two chairs", "the headphones", "a winter coat", "the desk")
PROBLEMS = {
    "billing": (
        "I paid twice for {thing}.",
        "the invoice for {thing} has the wrong price.",
        "my credit card was charged for {thing} although I cancelled the order.",
        "please send me a receipt for the payment for {thing}.",
    ),
    "shipping": (
        "the parcel with {thing} has not arrived yet.",
        "the courier delivered {thing} to the wrong address.",
        "the tracking page for {thing} has shown no progress for a week.",
        "when will {thing} be delivered?",
    ),
    "returns": (
        "I do not like {thing} and want to send it back.",
        "how can I exchange {thing} for another size?",
        "{thing} came broken, and I want my money back after returning it.",
        "there was no return label in the box with {thing}.",
    ),
    "account access": (
        "I forgot my password and cannot see my order of {thing}.",
        "I cannot log in any more since I bought {thing}.",
        "the login code never reaches my phone, so I cannot order {thing}.",
        "my account is locked; I only wanted to buy {thing}.",
    ),
    "technical": (
        "the app crashes whenever I open the page of {thing}.",
        "your website shows error 500 when I search for {thing}.",
        "the photos of {thing} do not load in my browser.",
        "the button to put {thing} into the cart does nothing.",
    ),
}


def tickets(number: int = 200, seed: int = 0) -> list[tuple[str, str]]:
    """Return so many tickets with their labels, as many of each label."""
    rng = random.Random(seed)
    labels = [label for label in PROBLEMS for _ in range(number // len(PROBLEMS))]
    rows = []
    for label in labels:
        problem = rng.choice(PROBLEMS[label]).format(thing=rng.choice(THINGS))
        rows.append((f"{rng.choice(OPENINGS)} {problem}", label))
    rng.shuffle(rows)
    return rows


def main(path: str) -> None:
    """Write the file."""
    with Path(path).open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("question", "answer"), *tickets()])


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "tickets.csv")
