"""What can be asked of a model. One class per kind of work says all that is known about the kind, in one place.

A kind says what is asked (its fields), what comes back, how it is cut into *units* for replicas, which results are
remembered, and how they are joined. Executors, brokers and replicas carry units without looking inside; an engine has
one method per kind, marked with ``computes(Kind)``. So a new kind is a class in ``kinds.py``, exported here, and a
method of the engine: optimizers ask for it with ``model.ask(Kind(...))`` at once.

``base.py`` holds what all kinds share, ``memory.py`` what is remembered, ``kinds.py`` the kinds.
"""

from greater_ray.work.base import BaseEngine, Unit, Work, computes
from greater_ray.work.kinds import (
    Answers,
    CheckPrompts,
    EncodePrompt,
    Generate,
    Gradients,
    NearestTokens,
    OneHotGradient,
    PromptGradients,
    PromptRoom,
    Proposals,
    RenderedTurns,
    Rollouts,
    SteepestTokens,
    TextEmbeddings,
    TokenEmbeddings,
    TokenTexts,
)
from greater_ray.work.memory import Memory

__all__ = [
    "Answers",
    "BaseEngine",
    "CheckPrompts",
    "EncodePrompt",
    "Generate",
    "Gradients",
    "Memory",
    "NearestTokens",
    "OneHotGradient",
    "PromptGradients",
    "PromptRoom",
    "Proposals",
    "RenderedTurns",
    "Rollouts",
    "SteepestTokens",
    "TextEmbeddings",
    "TokenEmbeddings",
    "TokenTexts",
    "Unit",
    "Work",
    "computes",
]
