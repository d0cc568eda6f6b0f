"""Writes the made rows of the tasks that ``lm_eval`` was run with: see README.md."""

import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent / "tasks"


def write(name: str, rows: list[dict[str, Any]]) -> None:
    (HERE / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def main() -> None:
    marbles, passages, letters = [], [], []
    for k in range(1, 7):
        asked = f"Ann has {k} marbles and finds {k + 2} more. How many has she?"
        marbles.append({"question": asked, "answer": f"{k} + {k + 2} = {2 * k + 2}\n#### {2 * k + 2}"})
        passage = f"The box number {k} holds {'a key' if k % 2 else 'a coin'} and nothing else."
        passages.append({"passage": passage, "question": f"is there a key in the box number {k}", "label": k % 2})
        choices = [str(k + 3), str(k + 4), str(k + 5)]
        letters.append({"question": f"What is {k} + 4?", "subject": "sums", "choices": choices, "answer": 1})
    write("marbles", marbles)
    write("passages", passages)
    write("letters", letters)


if __name__ == "__main__":
    main()
