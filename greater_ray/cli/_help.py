"""Help pages without noise: a flag has no type, and an argument goes by its name alone."""

from typing import Any

from typer.core import TyperCommand, TyperGroup

from greater_ray.progress.door import past_the_door


def _quiet(params: list[Any]) -> list[Any]:
    for param in params:
        if getattr(param, "is_flag", False):
            param.metavar = ""
        if param.param_type_name == "argument":
            # Its name stands beside it already.
            param.display_type_rich = lambda ctx: None
    return params


class Command(TyperCommand):
    """A command whose help names flags without ``<bool>`` and arguments without braces."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters as help shows them."""
        return _quiet(super().get_params(ctx))

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Draw the help page, which holds no text of anybody else."""
        with past_the_door():
            super().format_help(ctx, formatter)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return what stands behind the command's name in its usage line."""
        return [piece.replace("{", "").replace("}", "") for piece in super().collect_usage_pieces(ctx)]


class Group(TyperGroup):
    """The whole application; see ``Command``."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Draw the help page; see ``Command``."""
        with past_the_door():
            super().format_help(ctx, formatter)

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters as help shows them."""
        return _quiet(super().get_params(ctx))
