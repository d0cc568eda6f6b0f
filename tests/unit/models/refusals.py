"""Asking for a model that must be refused, in one whole sentence."""

import pytest

from greater_ray.config import ModelConfig
from greater_ray.errors import GreaterRayError, ModelError
from greater_ray.models.sources import resolve


def sentence(error: pytest.ExceptionInfo) -> str:
    text = str(error.value)
    assert "\n" not in text
    assert text.endswith((".", "?"))
    assert "Traceback" not in text
    return text


def refused(name: str, kind: type[GreaterRayError] = ModelError, **options: str) -> str:
    with pytest.raises(kind) as error:
        resolve(ModelConfig(name=name, **options))
    return sentence(error)
