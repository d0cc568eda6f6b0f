"""What the vocabulary of a model alone can tell: texts, filters, embedding rows and the searches over them.

Embedding rows are those of the table. Some architectures (Gemma) multiply them on the way into the model; gradients
with respect to the table's rows carry that factor, so a one-hot gradient is the same in both spaces.

Shape suffixes: V vocabulary, C a chunk of it, N vectors, D hidden size.
"""

import string
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from greater_ray.errors import ConfigError
from greater_ray.models._backward import TorchEngine
from greater_ray.models._logits import best_tokens
from greater_ray.models._placement import markup_tokens
from greater_ray.models._turns import Turns
from greater_ray.types import Layout, TokenIds, Usage
from greater_ray.work import (
    NearestTokens,
    OneHotGradient,
    SteepestTokens,
    TokenEmbeddings,
    TokenTexts,
    computes,
)

TOKEN_FILTERS = ("none", "ascii", "letters", "released")
# So many embedding rows are widened to float64 at once.
_CHUNK = 8192


class Vocabulary(Turns, TorchEngine):
    """Kinds of work that need no forward pass; a base of ``Engine``."""

    model: Any
    device: torch.device
    _filters: dict[str, Tensor]

    @computes(TokenTexts)
    def token_texts(self, work: TokenTexts, layout: Layout | None) -> tuple[list[str], Usage]:
        """Return the text of each token on its own."""
        return [self.tokenizer.decode([t], clean_up_tokenization_spaces=False) for t in work.tokens], Usage()

    def _vocabulary(self) -> list[str]:
        """The text of every token id that the tokenizer knows."""
        ids = [[i] for i in range(len(self.tokenizer))]
        texts: list[str] = self.tokenizer.batch_decode(ids, clean_up_tokenization_spaces=False)
        return texts

    def _banned(self, token_filter: str) -> Tensor:
        """Mask ``[V]`` of tokens that may never stand in a prompt."""
        if token_filter not in TOKEN_FILTERS:
            raise ConfigError(
                f"'{token_filter}' is unknown; allowed: {', '.join(TOKEN_FILTERS)}.", setting="token_filter"
            )
        if token_filter not in self._filters:
            size = self.model.get_input_embeddings().weight.shape[0]
            banned = torch.ones(size, dtype=torch.bool)
            printable = set(string.printable) - set("\t\n\r\x0b\x0c")
            for i, text in enumerate(self._vocabulary()[:size]):
                letters = bool(text) and all(c == " " or (c.isascii() and c.isalpha()) for c in text)
                banned[i] = {
                    "none": not text,
                    "ascii": not text or not set(text) <= printable,
                    "letters": not (letters or text in (".", ",")),
                    "released": not (letters or text in (".", ",") or i < 3),
                }[token_filter]
            banned[[i for i in self.tokenizer.all_special_ids if i < size]] = True
            marks = set(markup_tokens(self.tokenizer))
            for token, added in self.tokenizer.added_tokens_decoder.items():
                if token < size and (added.special or added.content in marks):
                    banned[token] = True
            self._filters[token_filter] = banned.to(self.device)
        return self._filters[token_filter]

    # -- embedding rows ----------------------------------------------------------------------------------------------

    def _embedding_scale(self) -> float:
        """The factor between a row of the table and what enters the model."""
        embed = self.model.get_input_embeddings()
        scale = getattr(embed, "embed_scale", None)
        return 1.0 if scale is None else float(torch.as_tensor(scale).to(embed.weight.dtype))

    def _chunks(self) -> Iterator[tuple[int, Tensor]]:
        """The table in float64, a chunk ``[C, D]`` at a time, with the id of its first row."""
        weight_VD = self.model.get_input_embeddings().weight
        for start in range(0, weight_VD.shape[0], _CHUNK):
            yield start, weight_VD[start : start + _CHUNK].double()

    @computes(OneHotGradient)
    @torch.no_grad()
    def one_hot_gradient(self, work: OneHotGradient, layout: Layout | None) -> tuple[list[float], Usage]:
        """dL/d(one-hot weight) of each token: its embedding row times the gradient, in float64 (paper Eq. 7)."""
        rows = self.model.get_input_embeddings()(torch.tensor(list(work.tokens), device=self.device)).double()
        return (rows @ self._wide(work.gradient)).tolist(), Usage()

    @computes(SteepestTokens)
    @torch.no_grad()
    def steepest_tokens(self, work: SteepestTokens, layout: Layout | None) -> tuple[TokenIds, Usage]:
        """The allowed tokens with the most negative one-hot gradient, steepest first; equal ones by id."""
        gradient_D = self._wide(work.gradient)
        values_V = torch.cat([rows_CD @ gradient_D for _, rows_CD in self._chunks()])
        return best_tokens(-values_V, self._banned(work.token_filter), work.count), Usage()

    @computes(TokenEmbeddings)
    @torch.no_grad()
    def token_embeddings(self, work: TokenEmbeddings, layout: Layout | None) -> tuple[list[list[float]], Usage]:
        """The tokens' rows of the embedding table."""
        weight_VD = self.model.get_input_embeddings().weight
        return weight_VD[torch.tensor(list(work.tokens), device=weight_VD.device)].double().tolist(), Usage()

    @computes(NearestTokens)
    @torch.no_grad()
    def nearest_tokens(self, work: NearestTokens, layout: Layout | None) -> tuple[TokenIds, Usage]:
        """For each vector the allowed token whose embedding row has the largest cosine with it; equal ones by id."""
        unit_ND = torch.nn.functional.normalize(self._wide(work.vectors), dim=-1)
        banned = self._banned(work.token_filter)
        best_N = torch.full((len(work.vectors),), -torch.inf, dtype=torch.float64, device=self.device)
        token_N = torch.zeros(len(work.vectors), dtype=torch.long, device=self.device)
        for start, rows_CD in self._chunks():
            cosine_NC = unit_ND @ torch.nn.functional.normalize(rows_CD, dim=-1).T
            cosine_NC = cosine_NC.masked_fill(banned[start : start + _CHUNK], -torch.inf)
            value_N = cosine_NC.max(dim=-1).values
            first_N = (cosine_NC == value_N[:, None]).int().argmax(dim=-1) + start
            token_N = torch.where(value_N > best_N, first_N, token_N)
            best_N = torch.maximum(value_N, best_N)
        return tuple(token_N.tolist()), Usage()

    def _wide(self, values: Sequence[Any]) -> Tensor:
        return torch.tensor(values, dtype=torch.float64, device=self.device)
