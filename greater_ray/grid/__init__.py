"""Grids of trials: their cells, what is done of them, and where prompts go afterwards. No Ray here."""
