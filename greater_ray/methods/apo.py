"""APO: reasons why a prompt failed on a few rows, then a new prompt that answers to them.

Pryzant et al., "Automatic Prompt Optimization with 'Gradient Descent' and Beam Search", EMNLP 2023, in the form in
which the code released with PE2 runs it and the GReaTer paper compares with it: no bandit, no paraphrases, a search
with backtracking over prompts scored on all dev rows. The authors' own form is ``protegi``.
"""

from collections.abc import Sequence

from pydantic import Field

from greater_ray.methods._archive import Scored
from greater_ray.methods._beam import ErrorConfig, ErrorDriven, Expansion, Node, paraphrase_wording
from greater_ray.methods._failures import Failure, Search, answer_of, draw, shortened
from greater_ray.methods._writer import PERSONA, WORDS, Asker, chat, prompt_reader, reply_rule, word_rule, wording
from greater_ray.types import Conversation


class ApoConfig(ErrorConfig):
    """``n_reasons`` 5, critiques at ``temperature`` 0.7 and greedy rewrites are those of the released code."""

    n_reasons: int = Field(default=5, ge=1, description="Reasons that a critique is asked for.")
    rewrite_temperature: float = Field(default=0.0, ge=0, description="Temperature of the rewrites; 0 is greedy.")


class Apo(ErrorDriven[ApoConfig]):
    """The method; stateless."""

    summary = "beam search; each child answers to a critique of a few wrong answers"
    source = "Pryzant et al., EMNLP 2023, arXiv 2305.03495; as in PE2's code"
    config_type = ApoConfig

    def update(self, asker: Asker, config: ApoConfig, parent: Scored, node: Node, search: Search) -> Expansion:
        """Ask for one critique per child, each of failures of its own, and for one rewrite per critique."""
        rng = asker.problem.rng(asker.step, "failures")
        batches = [draw(rng, search.failures, config.batch_size) for _ in range(config.n_expand)]
        requests = [critique_request(parent.text, batch, config) for batch in batches]
        critiques = asker.gather(requests, "critique", WORDS)
        texts: list[str | None] = [None] * config.n_expand
        given = [(k, critique) for k, critique in enumerate(critiques) if critique is not None]
        rewrites = asker.gather(
            [rewrite_request(parent.text, batches[k], critique, config) for k, critique in given],
            "rewrite",
            prompt_reader(config.reply),
            temperature=config.rewrite_temperature,
        )
        for (k, _), text in zip(given, rewrites, strict=True):
            texts[k] = text
        return Expansion(texts)

    def meta(self, config: ApoConfig) -> str:
        """Return all requests, empty."""
        own = wording(critique_request("", [], config), rewrite_request("", [], "", config))
        return f"{own}\n{paraphrase_wording(config)}"


def shown(failures: Sequence[Failure], limit: int) -> str:
    """Write down wrong answers, one after another."""
    return "\n\n".join(
        f"Case {number}\nInput: {failure.example.question}\n"
        f"Reasoning of the model: {shortened(failure.record.reasoning_text, limit)}\n"
        f"Answer of the model: {answer_of(failure.record)}\n"
        f"Right answer: {failure.example.target}"
        for number, failure in enumerate(failures, 1)
    )


def _situation(prompt: str, failures: Sequence[Failure], config: ApoConfig) -> str:
    return (
        "My aim is a zero-shot prompt with which a language model answers inputs of one kind. "
        f'At present I use this prompt:\n\n"{prompt}"\n\n'
        f"With it these inputs were answered wrongly:\n\n{shown(failures, config.max_shown_characters)}\n\n"
    )


def critique_request(prompt: str, failures: Sequence[Failure], config: ApoConfig) -> Conversation:
    """Ask for reasons why the prompt failed on these rows."""
    return chat(
        _situation(prompt, failures, config)
        + f"Name {config.n_reasons} reasons why the prompt may have led to these mistakes. List the reasons only.",
        PERSONA,
    )


def rewrite_request(prompt: str, failures: Sequence[Failure], critique: str, config: ApoConfig) -> Conversation:
    """Ask for a prompt that does away with these reasons."""
    return chat(
        _situation(prompt, failures, config) + f"A reviewer sees these problems in the prompt:\n\n{critique}\n\n"
        f"Write a better prompt with these problems in mind. {word_rule(config.max_words)}{reply_rule(config.reply)}",
        PERSONA,
    )


PLUGIN = Apo()
