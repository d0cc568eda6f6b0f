"""Text around and in a prompt: what a tokenizer and a chat template tell without the model."""

from typing import Any

from greater_ray.models._spans import SpanBuilder
from greater_ray.types import Layout, PromptCheck, TokenIds, Usage
from greater_ray.work import BaseEngine, CheckPrompts, EncodePrompt, RenderedTurns, computes


class Turns(BaseEngine):
    """Kinds of work on prompts as text; a base of ``Engine``."""

    tokenizer: Any
    _spans: dict[Layout, SpanBuilder]

    def spans(self, layout: Layout) -> SpanBuilder:
        """Return the builder of token ids for a layout."""
        if layout not in self._spans:
            self._spans[layout] = SpanBuilder(self.tokenizer, layout)
        return self._spans[layout]

    @computes(EncodePrompt)
    def encode_prompt(self, work: EncodePrompt, layout: Layout) -> tuple[TokenIds, Usage]:
        """Tokenize a prompt as it continues the frozen prefix."""
        return self.spans(layout).encode_prompt(work.text), Usage()

    @computes(CheckPrompts)
    def check_prompts(self, work: CheckPrompts, layout: Layout) -> tuple[list[PromptCheck], Usage]:
        """Decode prompts and tell which survive decoding and tokenizing again."""
        return [self.spans(layout).check(prompt) for prompt in work.prompts], Usage()

    @computes(RenderedTurns)
    def rendered_turns(self, work: RenderedTurns, layout: Layout) -> tuple[str, Usage]:
        """Return them for a question of which nothing is known."""
        return self.spans(layout).rendered, Usage()
