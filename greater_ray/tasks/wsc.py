"""WSC, the Winograd schema challenge: which of two things a pronoun means, in the form and the sizes of GPO."""

from functools import partial

from greater_ray.config import TaskConfig
from greater_ray.protocols import Task
from greater_ray.tasks._forms import letter_form
from greater_ray.tasks._given import given, load_off_hub, refuse_gpo_without_files
from greater_ray.tasks._sources import Row, Source, check_data_option, read_hub
from greater_ray.tasks._splits import grouped, whole_groups
from greater_ray.tasks._task import Family, Loaded, RowTask, TaskInfo, refuse_other_type
from greater_ray.types import Example

# lm-eval's copy; the older "winograd_wsc" needs a loading script, which datasets >= 4 refuses.
HUB_ID, HUB_CONFIG = "lighteval/winograd_wsc", "wsc273"
FORM = letter_form(2)
SIZES = {"train": 50, "dev": 50, "test": 150}
_NEEDS = "a sentence, its pronoun and the letter of one of two options"


def load(name: str, config: TaskConfig) -> Task:
    """Build WSC from the hub, from a folder with GPO's files, or from made rows of the same form.

    Raises:
        ConfigError: ``task.data`` is unusable or a setting does not apply.
    """
    refuse_other_type(name, config, FORM, ("gpo",))
    check_data_option(config.data)
    refuse_gpo_without_files(name, config)
    return RowTask(
        name, FORM, partial(_load_rows, config), f"{name} (synthetic)" if config.data == "synthetic" else name
    )


def _load_rows(config: TaskConfig) -> Loaded:
    if config.data == "hub":
        source = read_hub(HUB_ID, "test", HUB_CONFIG)
        rule = "in the order of the source: 50 train, 50 dev, 150 test, schemas with the same options in one split"
        return given("wsc", config, _whole_schemas(source), _hub_row, rule, _NEEDS)
    return load_off_hub("wsc", config, FORM, SIZES, ["WSC", "wsc"], _NEEDS, "wsc")


def _whole_schemas(source: Source) -> dict[str, Source]:
    """Fill the splits one after the other. Twins, which differ in a word that turns the answer, stay together."""
    groups = grouped([tuple(row.values.get("options") or (row.index,)) for row in source.rows])
    places = whole_groups(groups, SIZES)
    return {split: Source(tuple(source.rows[i] for i in rows), source.origin) for split, rows in places.items()}


def _hub_row(split: str, row: Row) -> Example | None:
    """Write one row as GPO's files have it: the question behind the sentence, the options as lines."""
    text, pronoun, options, index = (row.values.get(key) for key in ("text", "pronoun", "options", "label"))
    if not (isinstance(text, str) and isinstance(pronoun, str) and isinstance(options, list) and index in (0, 1)):
        return None
    if not text.strip() or not pronoun.strip() or len(options) != len(FORM.choices):
        return None
    question = f'{text.strip()} What does the pronoun "{pronoun}" refer to?\n(A) {options[0]}\n(B) {options[1]}'
    letter = FORM.choices[index]
    return Example(f"wsc/{split}#{row.index}", question, f"({letter})", letter)


PLUGIN = Family(
    tasks=(TaskInfo("wsc", "letter", (), "what a pronoun refers to (Winograd schemas)", True),),
    load=load,
    aliases={"wsc273": "wsc"},
)
