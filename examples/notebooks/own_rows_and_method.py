# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Own rows and an own method
#
# A question and an answer per row are all that a task needs, and a method is a class with two functions.

# %%
import pandas as pd

from greater_ray import load, optimize, plots

TICKETS = {
    "billing": ["I paid twice for the lamp.", "The invoice has the wrong price.", "Please send me a receipt."],
    "shipping": ["The parcel has not arrived yet.", "It came to the wrong address.", "When will it be delivered?"],
    "technical": ["The app crashes at the start.", "The page does not load.", "The button does nothing."],
}
GREETINGS = ["Hello.", "Dear team.", "Please help."]
tickets = pd.DataFrame(
    [
        {"question": f"{greeting} {text}", "answer": label}
        for label, texts in TICKETS.items()
        for text in texts
        for greeting in GREETINGS
    ]
)
tickets.sample(3, random_state=0)

# %% [markdown]
# ## A method
#
# It leaves out one token of the prompt at a time and keeps what makes the right label most likely among the labels.
# `step` asks the model for rollouts of all shorter prompts at once; what was computed before costs nothing. Budget,
# checkpoints, records and the final evaluation belong to the loop.

# %%
from greater_ray.config import Config
from greater_ray.protocols import Candidate, MethodState, StepInfo
from greater_ray.types import LossSpec
from greater_ray.work import CheckPrompts, Rollouts


class ShorterConfig(Config):
    initial_prompt: str = " which team should handle this?"


class Shorter:
    summary = "leave out the token that helps least"
    source = "examples/notebooks/own_rows_and_method.py"
    seeded = False
    selects_by = "train"
    config_type = ShorterConfig
    state_type = MethodState
    presets = {"paper": {"budget": {"steps": 20}}}

    def start(self, problem, config):
        return MethodState(prompt_ids=problem.encode(config.initial_prompt))

    def step(self, problem, config, state):
        old = state.result
        prompts = [old, *(old[:k] + old[k + 1 :] for k in range(len(old)))]
        rollouts = problem.model.ask(Rollouts(problem.examples, prompts, LossSpec(label="choice", fluency_weight=0)))
        losses = [sum(r.choice_ce for r in rows) / len(rows) for rows in rollouts]
        checks = problem.model.ask(CheckPrompts(prompts))
        chosen = min(range(len(prompts)), key=lambda k: losses[k])
        best = tuple(sorted({*state.best, *zip(losses, prompts, strict=True)})[:10])
        info = StepInfo(
            position=None,
            prompt_ids=prompts[chosen],
            prompt_text=checks[chosen].text,
            loss=losses[chosen],
            best_loss=best[0][0],
            accepted=chosen - 1 if chosen else None,
            candidates=tuple(
                Candidate(None, check.text, gradient=None, loss=loss)
                for check, loss in zip(checks[1:], losses[1:], strict=True)
            ),
        )
        over = chosen == 0 or len(prompts[chosen]) == 1
        return state.model_copy(update={"step": state.step + 1, "best": best, "finished": over}), info


SHORTER = Shorter()

# %% [markdown]
# ## Both together
#
# A method is named by where it is found: `__main__` is this notebook; in a file `my_method.py` it is
# `my_method:SHORTER`, and then a grid on Ray finds it too. The rows are known by their content, so the folder goes on
# with the same frame only.

# %%
SIZES = {"train_size": 6, "dev_size": 0, "test_size": 12}
record = optimize(
    model="smollm2-135m",
    rows=tickets,
    # The likeliest of the labels after these words is taken for the answer.
    task={"name": "rows", "extractor": "The topic is", "reading": "likelihood", **SIZES},
    method="__main__:SHORTER",
    steps=2,
    decoding={"max_reasoning_tokens": 4, "max_answer_tokens": 2},
    evaluation={"splits": ["test"]},
    out="runs/own",
)
record

# %%
plots.steps(load("runs/own"))

# %% [markdown]
# What was answered before and after? One line per test row:

# %%
answers = load("runs/own").answer_frame()
answers.pivot_table(index=["row", "target"], columns="when", values="prediction", aggfunc="first")
