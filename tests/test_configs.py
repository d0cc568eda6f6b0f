"""Every YAML in ``pipelines/configs`` is a config that resolves."""

from pathlib import Path

import pytest

from greater_ray.api import resolve_config
from greater_ray.config import read_yaml

CONFIGS = sorted((Path(__file__).parent.parent / "pipelines" / "configs").glob("**/*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_shipped_config_resolves(path: Path) -> None:
    config = resolve_config(read_yaml(path))
    assert config.trial_id() == resolve_config(config.model_dump(mode="json")).trial_id()
