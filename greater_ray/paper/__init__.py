"""The papers' tables and figures as data, run through grids, and our numbers beside the published ones.

- ``catalog.py``: the experiments: tables, models, methods, scales, published prompts;
- ``plan.py``: a table becomes numbers, and numbers become cells of a grid;
- ``store.py``: the one folder of all tables, its scale and version, and seals of its records;
- ``measure.py``: records become numbers with intervals and tests;
- ``cost.py``: what is missing will cost; ``power.py``: what its rows can show;
- ``layout.py``, ``latex.py``, ``figures.py``: how they are shown.
"""
