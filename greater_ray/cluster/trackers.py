"""TensorBoard, MLflow and W&B through Tune's own callbacks. A tracker that fails is left out; the run goes on."""

from collections.abc import Callable, Iterable
from typing import Any

from ray import tune

from greater_ray.errors import ConfigError, redacted, unknown_name

TRACKERS = ("tensorboard", "mlflow", "wandb")
_PACKAGES = {"tensorboard": "tensorboardX", "mlflow": "mlflow", "wandb": "wandb"}


def check_trackers(names: Iterable[str]) -> tuple[str, ...]:
    """Return the names of trackers that can be used.

    Raises:
        ConfigError: an unknown tracker, or one whose package is not installed.
    """
    from importlib.util import find_spec

    names = tuple(names)
    for name in names:
        if name not in TRACKERS:
            raise unknown_name("tracker", name, TRACKERS)
        if find_spec(_PACKAGES[name]) is None:
            raise ConfigError(
                f"'{name}' needs the package {_PACKAGES[name]}; pip install {_PACKAGES[name]}.", setting="tracker"
            )
    return names


def tracker_callbacks(names: Iterable[str], tell: Callable[[str], None]) -> list[tune.Callback]:
    """Return guarded Tune callbacks for the trackers."""
    return [_Guarded(name, tell) for name in names]


def _make(name: str) -> tune.Callback:
    if name == "tensorboard":
        from ray.tune.logger import TBXLoggerCallback

        return TBXLoggerCallback()
    if name == "mlflow":
        from ray.air.integrations.mlflow import MLflowLoggerCallback

        return MLflowLoggerCallback(experiment_name="greater-ray")
    from ray.air.integrations.wandb import WandbLoggerCallback

    return WandbLoggerCallback(project="greater-ray")


class LocalCallback(tune.Callback):  # type: ignore[misc]
    """A callback that stays in this process: Tune saves all of them for a restart that the grid does not use."""

    def __reduce__(self) -> Any:
        return tune.Callback, ()


class _Guarded(LocalCallback):
    """Passes events on until the tracker raises for the first time."""

    def __init__(self, name: str, tell: Callable[[str], None]) -> None:
        self._name, self._tell = name, tell
        self._inner: tune.Callback | None = None
        self._do(lambda: setattr(self, "_inner", _make(name)))

    def __reduce__(self) -> tuple[Any, ...]:
        # Tune saves its callbacks for a restore that never comes.
        return tune.Callback, ()

    def _do(self, action: Callable[[], Any]) -> None:
        try:
            action()
        except Exception as error:  # noqa: BLE001 - whatever a tracker does, the run goes on
            self._inner = None
            reason = redacted(" ".join(str(error).split()))
            self._tell(f"tracker {self._name} failed and is left out: {type(error).__name__}: {reason}")


def _passed_on(name: str) -> Callable[..., None]:
    def hook(self: _Guarded, *args: Any, **info: Any) -> None:
        inner = self._inner
        if inner is not None:
            self._do(lambda: getattr(inner, name)(*args, **info))

    return hook


for _name in dir(tune.Callback):
    if _name.startswith("on_") or _name == "setup":
        setattr(_Guarded, _name, _passed_on(_name))
