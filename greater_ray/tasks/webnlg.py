"""WebNLG: English text for RDF triples, scored by ROUGE-L against several references, in GPO's form and sizes."""

from functools import partial

from greater_ray.config import TaskConfig
from greater_ray.protocols import Task
from greater_ray.tasks._forms import AnswerForm
from greater_ray.tasks._given import given, load_off_hub, refuse_gpo_without_files
from greater_ray.tasks._metrics import metric
from greater_ray.tasks._sources import Row, Source, check_data_option, read_hub
from greater_ray.tasks._splits import grouped, shuffled
from greater_ray.tasks._task import Family, Loaded, RowTask, TaskInfo, refuse_other_type
from greater_ray.types import Example

# The data set itself needs a loading script, which datasets >= 4 refuses; the hub keeps a Parquet copy beside it.
HUB_ID, HUB_REVISION = "GEM/web_nlg", "refs/convert/parquet"
SIZES = {"train": 100, "dev": 100, "test": 300}
INSTRUCTION = "Write the following triples as fluent English text."
ANSWER_TOKENS = 128  # references have up to 108 of SmolLM2's tokens, 87 at the 99th percentile
_NEEDS = "triples and a reference text"


def form() -> AnswerForm:
    """Free text; the score is the mean of ROUGE-L over the references, as GPO's authors take it.

    Raises:
        ConfigError: ``rouge-score`` is not installed.
    """
    return AnswerForm("text", metric=metric("rouge-l-mean"))


def load(name: str, config: TaskConfig) -> Task:
    """Build WebNLG from the hub, from a folder with GPO's files, or from made rows of the same form.

    Raises:
        ConfigError: ``task.data`` is unusable, a setting does not apply, or ``rouge-score`` is not installed.
    """
    own = form()
    refuse_other_type(name, config, own, ("gpo",))
    check_data_option(config.data)
    refuse_gpo_without_files(name, config)
    title = f"{name} (synthetic)" if config.data == "synthetic" else name
    return RowTask(name, own, partial(_load_rows, config, own), title)


def _load_rows(config: TaskConfig, own: AnswerForm) -> Loaded:
    if config.data == "hub":
        rule = (
            "rows with different triples in an order drawn from seed "
            f"{config.seed}: 100 train and 100 dev of the validation split, 300 test of the test split"
        )
        return given("webnlg", config, _hub(config.seed), _hub_row, rule, _NEEDS)
    return load_off_hub("webnlg", config, own, SIZES, ["WebNLG", "webnlg"], _NEEDS, "webnlg")


def _hub(seed: int) -> dict[str, Source]:
    """Draw rows; the source is sorted by subject and length, so its first rows would be all alike."""
    drawn = {}
    for split, number in (("validation", SIZES["train"] + SIZES["dev"]), ("test", SIZES["test"])):
        files = {split: f"en/{split}/*.parquet"}
        source = read_hub(HUB_ID, split, revision=HUB_REVISION, data_files=files)
        groups = shuffled(grouped([_triples(row) for row in source.rows]), seed, f"webnlg-{split}")
        drawn[split] = Source(tuple(source.rows[group[0]] for group in groups[:number]), source.origin)
    rows, origin = drawn["validation"].rows, drawn["validation"].origin
    parts = {"train": rows[: SIZES["train"]], "dev": rows[SIZES["train"] :]}
    return {**{split: Source(part, origin) for split, part in parts.items()}, "test": drawn["test"]}


def _triples(row: Row) -> tuple[str, ...]:
    triples = row.values.get("input")
    return tuple(str(triple).strip() for triple in triples) if isinstance(triples, list) else ()


def _hub_row(split: str, row: Row) -> Example | None:
    """Write one row as GPO's files have it."""
    triples, references = _triples(row), row.values.get("references")
    golds = [str(gold).strip() for gold in references] if isinstance(references, list) else []
    golds = [gold for gold in dict.fromkeys(golds) if gold]
    if not triples or not golds:
        return None
    question = "\n".join([INSTRUCTION, "", "Triples:", *triples])
    return Example(f"webnlg/{split}#{row.index}", question, golds[0], golds[0], tuple(golds[1:]))


PLUGIN = Family(
    tasks=(TaskInfo("webnlg", "text", (), "English text for RDF triples (ROUGE-L)", True, ANSWER_TOKENS),),
    load=load,
)
