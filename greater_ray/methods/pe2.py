"""PE2: the writer first examines a few wrong answers by a form, then writes the new prompt, in one conversation.

Ye et al., "Prompt Engineering a Prompt Engineer", Findings of ACL 2024. The search is the one of ``_beam``.
"""

from typing import Any

from pydantic import Field

from greater_ray.methods import _pe2_prompts as turns
from greater_ray.methods._archive import Scored
from greater_ray.methods._beam import ErrorConfig, ErrorDriven, Expansion, Node, paraphrase_wording
from greater_ray.methods._failures import Failure, Search, draw
from greater_ray.methods._writer import WORDS, Asker, Reader, prompt_reader, wording
from greater_ray.types import Conversation, Generation, Message


class Pe2Config(ErrorConfig):
    """Options of PE2; temperatures and token limits of the turns are those of the released code.

    ``history`` and ``step_size`` (10 in the code when switched on) are the paper's ablations, off by default as there.
    """

    max_new_tokens: int = Field(default=300, ge=1, description="Tokens that the new prompt may have.")
    analysis_temperature: float = Field(default=0.5, ge=0, description="Temperature of the analysis.")
    analysis_tokens: int = Field(default=1500, ge=1, description="Tokens that the analysis may have.")
    history: bool = Field(default=False, description="Shows the log of a prompt's ancestors (the paper's momentum).")
    history_tokens: int = Field(default=200, ge=1, description="Tokens that the line about a change may have.")
    step_size: int | None = Field(default=None, ge=1, description="Words that may change at most; none: no limit.")


class Pe2(ErrorDriven[Pe2Config]):
    """The method; stateless."""

    summary = "beam search; a two-step conversation examines wrong answers and rewrites"
    source = "Ye et al., Findings of ACL 2024, arXiv 2311.05661"
    config_type = Pe2Config

    def update(self, asker: Asker, config: Pe2Config, parent: Scored, node: Node, search: Search) -> Expansion:
        """Hold one conversation per child, all of them turn by turn at the same time."""
        rng = asker.problem.rng(asker.step, "failures")
        talks: list[Conversation] = [
            opening(parent.text, draw(rng, search.failures, config.batch_size), config, asker.problem.prompt_first)
            for _ in range(config.n_expand)
        ]
        log = with_accuracy(node, search) if config.history else None
        read = [True] * len(talks)

        def turn(purpose: str, request: Message | None, reader: Reader[str], **settings: Any) -> list[str | None]:
            """Do one turn of every conversation that is still going on."""
            going = [k for k in range(len(talks)) if read[k]]
            for k in going:
                talks[k] = talks[k] if request is None else (*talks[k], request)
            replies = asker.gather([talks[k] for k in going], purpose, _kept(reader), **settings)
            values: list[str | None] = [None] * len(talks)
            for k, reply in zip(going, replies, strict=True):
                read[k] = reply is not None
                if reply is not None:
                    talks[k] = (*talks[k], Message("assistant", reply[0]))
                    values[k] = reply[1]
            return values

        turn("analysis", None, WORDS, temperature=config.analysis_temperature, max_tokens=config.analysis_tokens)
        request = turns.new_prompt_request(
            parent.text, history=log, step_size=config.step_size, max_words=config.max_words, form=config.reply
        )
        texts = turn("prompt", request, prompt_reader(config.reply))
        if log is None:
            return Expansion(texts)
        lines = turn("history", turns.log_request(node.generation + 1), WORDS, max_tokens=config.history_tokens)
        return Expansion(texts, [_extended(log, node.generation + 1, line) for line in lines])

    def meta(self, config: Pe2Config) -> str:
        """Return all turns, empty."""
        own = wording(
            opening("", [], config),
            (
                turns.new_prompt_request(
                    "", history="", step_size=config.step_size or 0, max_words=config.max_words, form=config.reply
                ),
                turns.log_request(0),
            ),
        )
        return f"{own}\n{paraphrase_wording(config)}"


def _kept(reader: Reader[str]) -> Reader[tuple[str, str]]:
    """Read a reply and keep the whole of it as well, because it stays in the conversation."""

    def read(reply: Generation) -> tuple[str, str] | None:
        value = reader.read(reply)
        return None if value is None else (reply.text, value)

    return Reader(read, reader.opening)


def opening(prompt: str, failures: list[Failure], config: Pe2Config, prompt_first: bool = False) -> Conversation:
    """Return the conversation up to the first reply (turns 0 to 3)."""
    return (
        turns.SYSTEM,
        turns.introduction(len(failures), history=config.history, step_size=config.step_size is not None),
        turns.AGREEMENT,
        turns.material(prompt, failures, config.max_shown_characters, prompt_first),
    )


def with_accuracy(node: Node, search: Search) -> str:
    """Return a prompt's log with its train accuracy, on the rows that were looked at for wrong answers."""
    line = f"Accuracy at step {node.generation}: {search.accuracy:.0%} of {search.num_rows} train rows."
    return f"{node.history}\n{line}" if node.history else line


def _extended(log: str, step: int, line: str | None) -> str:
    return log if line is None else f"{log}\nStep {step}: {' '.join(line.split())}"


PLUGIN = Pe2()
