# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A grid and its report
#
# Methods by tasks by models by seeds, one call. What is done is never done again, so add a task or a seed and run the
# cell again. The sizes are tiny to be quick: read the pictures for what they can show, not for who wins.

# %%
from greater_ray import load, plots, run_grid

START = {"initial_prompt": " think step by step."}
GRID = {
    "name": "small",
    "methods": [
        {"name": "greater", "method_config": {**START, "fluency": "nll", "num_evaluated": 3, "top_k": 4}},
        {"name": "autoprompt", "method_config": {**START, "num_candidates": 3}},
        "zero-shot-cot",
    ],
    "tasks": ["bbh/boolean_expressions"],
    "models": ["smollm2-135m"],
    "settings": {
        "task": {"data": "synthetic", "train_size": 3, "dev_size": 0, "test_size": 8},
        "decoding": {"max_reasoning_tokens": 6, "max_answer_tokens": 3},
        "budget": {"steps": 2},
        "evaluation": {"splits": ["test"]},
    },
    # What was found, measured on another model: here the same one with less precise numbers.
    "transfer": {"models": [{"name": "smollm2-135m", "label": "in bfloat16", "dtype": "bfloat16"}]},
}
# 0 replicas: in this process, one cell after the other. Without it a Ray of its own runs as many copies as fit.
results = run_grid(GRID, "runs/small", replicas=0)
results

# %% [markdown]
# ## Pictures
#
# Each function returns a matplotlib figure: `plots.accuracy(results).savefig("accuracy.pdf")`.

# %%
plots.accuracy(results)

# %%
plots.costs(results)

# %%
plots.curves(results)

# %%
plots.transfer(results)

# %%
plots.ranks(results)

# %% [markdown]
# ## Frames
#
# Tidy pandas frames of cells, steps and answers. The pictures take a filtered frame as well.

# %%
cells = results.cell_frame()
cells[cells["source"].isna()][["method", "task", "after", "after_low", "after_high", "search_tokens", "prompt"]]

# %%
plots.accuracy(cells[cells["method"] == "greater"])

# %% [markdown]
# ## The report
#
# All of it and the life of every prompt in one HTML file, which opens from disk.

# %%
from pathlib import Path

from greater_ray.report import write_report

write_report(load("runs/small"), Path("runs/small/report.html"))
print("runs/small/report.html")
