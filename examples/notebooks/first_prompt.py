# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A first prompt
#
# A model with 135 million parameters looks for its own prompt: it proposes tokens, reasons, and the gradient of the
# loss *through this reasoning* tells which of them to try (GReaTer). Everything here runs on a CPU in seconds, so the
# numbers are small, and so is what they can show.

# %%
from greater_ray import evaluate, load, optimize, plots

# The model comes as a Python wheel; rows are made by a generator, so nothing else is fetched.
SMALL = {
    "model": "smollm2-135m",
    "task": {"name": "bbh/boolean_expressions", "data": "synthetic", "train_size": 4, "dev_size": 0, "test_size": 6},
    "decoding": {"max_reasoning_tokens": 10, "max_answer_tokens": 3},
}

# %% [markdown]
# ## What is a prompt of mine worth?
#
# `strict` goes by the reasoning alone; the other score asks the model for its answer with an extractor.

# %%
evaluate("Think step by step.", **SMALL)

# %% [markdown]
# ## Is there a better one?
#
# The panel below is drawn anew while the search runs, and leaves one line. Interrupt the kernel at any time: the same
# call goes on in the same folder.

# %%
record = optimize(
    **SMALL,
    method_config={"initial_prompt": " think step by step.", "fluency": "nll", "num_evaluated": 2, "top_k": 4},
    steps=3,
    evaluation={"splits": ["test"]},
    out="runs/first",
)
record

# %% [markdown]
# A change whose p-value is not small is no result, and six rows can hardly tell two prompts apart: take more rows,
# steps and tokens of reasoning for a search that is meant.
#
# ## How did it get there?

# %%
plots.steps(load("runs/first"))

# %% [markdown]
# Every candidate that was tried is in the record's folder, with its gradient and the criterion that was measured:

# %%
load("runs/first").step_frame()[["step", "position", "prompt", "loss", "accepted", "candidates", "tokens"]]

# %% [markdown]
# ## Take it elsewhere
#
# As chat messages; `greater-ray export runs/first --format dspy` and others write it for other programs.

# %%
from greater_ray.export import as_text, export

print(as_text(export(record, "messages")))
