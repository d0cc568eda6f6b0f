"""A page for every task: what it asks, how its answers are read, and how it is called."""

from typing import Any

from greater_ray.config import TaskConfig
from greater_ray.tasks import available_groups, available_tasks, extractor, extractor_variants, load_task, task_aliases

# Rows of one's own have a page that is written by hand.
_OWN = "rows"


def _families() -> dict[str, list[Any]]:
    """Return the tasks by the part of their names before the slash; one without a slash is alone."""
    found: dict[str, list[Any]] = {}
    for task in available_tasks():
        if task.name != _OWN:
            found.setdefault(task.name.partition("/")[0], []).append(task)
    return found


def places() -> list[str]:
    """Return the pages for a table of contents: those of families, and of tasks that are alone."""
    return [f"tasks/{family}" for family in _families()]


def pages() -> dict[str, str]:
    """Return the Markdown of all pages."""
    families = {f"tasks/{family}.md": _family(family, tasks) for family, tasks in _families().items() if len(tasks) > 1}
    return families | {f"tasks/{t.name}.md": _page(t) for tasks in _families().values() for t in tasks}


def _family(family: str, tasks: list[Any]) -> str:
    rows = "\n".join(f"| [`{task.name}`]({task.name}.md) | {task.answer_type} | {task.description} |" for task in tasks)
    return f"# {family}\n\n| task | an answer is | what it asks |\n| --- | --- | --- |\n{rows}\n"


def _page(task: Any) -> str:
    data = "synthetic" if task.synthetic else "hub"
    built: Any = load_task(TaskConfig(name=task.name, data=data))
    aliases = sorted(alias for alias, name in task_aliases().items() if name == task.name and alias != task.name)
    groups = [name for name, members in sorted(available_groups().items()) if task.name in members]
    up = "../" * (1 + task.name.count("/"))
    rows = [
        ("what it asks", task.description),
        ("an answer is", f"`{built.answer_type}`"),
        ("metric", f"`{built.metric}`"),
        ("groups", ", ".join(f"`{name}`" for name in groups) or "none"),
        ("other names", ", ".join(f"`{name}`" for name in aliases) or "none"),
        ("made rows", "yes: `--data synthetic`" if task.synthetic else "no"),
    ]
    if task.answer_tokens:
        rows.append(("tokens for an answer", f"{task.answer_tokens}, unless `decoding.max_answer_tokens` is set"))
    table = "\n".join(f"| {what} | {text} |" for what, text in rows)
    texts = "\n".join(f"| `{name}` | {_code(extractor(built, name).text)} |" for name in extractor_variants())
    # In a sidebar so many pages would hide the others; those of families stand in a table.
    front = "---\norphan: true\n---\n\n" if "/" in task.name else ""
    return (
        f"{front}# {task.name}\n\n| | |\n| --- | --- |\n{table}\n\n"
        f"Sources, licences and splits of all tasks stand [together]({up}tasks.md).\n\n"
        f"```sh\n{_command(task.name, data)}\n```\n\n"
        f"## What asks for the answer\n\n| `--extractor` | text |\n| --- | --- |\n{texts}\n\n{_example(task, built)}"
    )


def _command(name: str, data: str) -> str:
    made = " --data synthetic" if data == "synthetic" else ""
    return f"greater-ray optimize --model smollm2-135m --task {name}{made}"


def _code(text: str) -> str:
    shown = text.replace("|", "\\|").replace("\n", " ")
    return f"`{shown}`"


def _example(task: Any, built: Any) -> str:
    if not task.synthetic:
        return ""
    row = built.train()[0]
    return f"## A made row\n\nQuestion:\n\n```text\n{row.question}\n```\n\nAnswer: `{row.target}`\n"
