"""Questions put together from several columns: ``{title}`` fields, or a jinja2 template in its sandbox."""

import re
from collections.abc import Mapping
from decimal import Decimal
from functools import cache
from typing import Any

from greater_ray.errors import ConfigError, DataError, Place, did_you_mean
from greater_ray.tasks._sources import plain

_FIELD = re.compile(r"\{([^{}]+)\}")
_SETTING = "task.question_template"


def question_from(template: str, values: Mapping[str, Any], place: Place) -> str:
    """Fill in a template with the columns of a row; ``\\n`` and ``\\t`` may be typed as two characters.

    With ``{{ ... }}`` or ``{% ... %}`` it is a jinja2 template, which reaches nothing but the row.

    Raises:
        ConfigError: it is no template.
        DataError: a column is missing, or the template fails on this row.
    """
    template = template.replace("\\n", "\n").replace("\\t", "\t")
    if "{{" in template or "{%" in template:
        return _rendered(template, values, place)
    fields = _FIELD.findall(template)
    if not fields:
        raise ConfigError(f"{template!r} names no column; write {{column}}.", setting=_SETTING, value=template)
    for field in fields:
        if field not in values:
            raise _unknown(field, values, place)
    return _FIELD.sub(lambda field: plain(values[field[1]]), template).strip()


def _rendered(template: str, values: Mapping[str, Any], place: Place) -> str:
    from jinja2 import TemplateError, UndefinedError

    row = {name: plain(value) if isinstance(value, Decimal) else value for name, value in values.items()}
    try:
        text: str = _compiled(template).render(row)
    except UndefinedError as error:
        columns = ", ".join(map(str, values))
        raise DataError(f"{error}; columns: {columns}.", setting=_SETTING, place=place) from error
    except (TemplateError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise DataError(f"the template fails on this row ({reason}).", setting=_SETTING, place=place) from error
    return text.strip()


@cache
def _compiled(template: str) -> Any:
    from jinja2 import StrictUndefined, TemplateSyntaxError
    from jinja2.sandbox import SandboxedEnvironment

    try:
        return SandboxedEnvironment(undefined=StrictUndefined).from_string(template)
    except TemplateSyntaxError as error:
        raise ConfigError(f"{template!r} is no jinja2 template ({error}).", setting=_SETTING, value=template) from error


def _unknown(field: str, values: Mapping[str, Any], place: Place) -> DataError:
    columns = [str(known) for known in values]
    why = f"no column '{field}'; columns: {', '.join(columns) or 'none'}.{did_you_mean(field, columns)}"
    return DataError(why, setting=_SETTING, place=place, allowed=columns)
