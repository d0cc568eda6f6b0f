"""Writes the logs of this folder with the real inspect-ai: see README.md. Made rows only; the model is a mock."""

import shutil
import sys
import tempfile
from pathlib import Path

from inspect_ai import Task, eval
from inspect_ai.dataset import Sample
from inspect_ai.model import (
    ChatMessageAssistant,
    ChatMessageSystem,
    ChatMessageUser,
    ModelOutput,
    ModelUsage,
    get_model,
)
from inspect_ai.scorer import choice, includes
from inspect_ai.solver import generate, multiple_choice

SENTENCE = "The red box holds {n} marbles, and the blue box holds {m} more than the red one does. "


def choices() -> Task:
    rows = [
        Sample(
            id=f"sum-{k}",
            input=f"What is {k} + 4?",
            choices=[str(k + 3), str(k + 4), str(k + 5)],
            target="B",
        )
        for k in range(1, 7)
    ]
    return Task(dataset=rows, solver=multiple_choice(), scorer=choice(), epochs=2, name="choices")


def chat() -> Task:
    rows = [
        Sample(
            id=k,
            input=[
                ChatMessageSystem(content="Answer with a number."),
                ChatMessageUser(content="How many marbles are in an empty box?"),
                ChatMessageAssistant(content="0"),
                ChatMessageUser(content=SENTENCE.format(n=k, m=3) + "How many marbles are there in all?"),
            ],
            target=str(2 * k + 3),
        )
        for k in range(1, 7)
    ]
    return Task(dataset=rows, solver=generate(), scorer=includes(), name="chat")


def several() -> Task:
    colours = ["red", "blue", "green", "white", "orange", "yellow"]
    rows = [Sample(input=f"Name the colour that begins with {c[:2]}.", target=[c, c.title()]) for c in colours]
    return Task(dataset=rows, solver=generate(), scorer=includes(), name="several")


def said(*_: object) -> ModelOutput:
    output = ModelOutput.from_content("mockllm/model", "ANSWER: B")
    output.usage = ModelUsage(input_tokens=1, output_tokens=1, total_tokens=2)  # else it is counted, over the network
    return output


def main(folder: Path) -> None:
    model = get_model("mockllm/model", custom_outputs=said)
    for task, form in ((choices(), "eval"), (chat(), "json"), (several(), "eval")):
        with tempfile.TemporaryDirectory() as logs:
            (log,) = eval(task, model=model, log_dir=logs, log_format=form, display="none")
            assert log.status == "success", log.error
            shutil.move(log.location, folder / f"{task.name}.{form}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
