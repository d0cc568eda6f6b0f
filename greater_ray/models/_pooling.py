"""Embeddings of whole texts: the mean of the last layer's hidden states over a text's tokens.

Shape suffixes: B texts, T tokens, D hidden size.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from greater_ray.models._decode import Decoder
from greater_ray.models._kv import NEVER
from greater_ray.models._memory import MicroBatch
from greater_ray.types import TokenIds


@torch.no_grad()
def mean_hidden_states(decoder: Decoder, texts: Sequence[TokenIds], batch: MicroBatch) -> list[list[float]]:
    """Return one vector ``[D]`` of length one per text, in float64; texts are padded on the right and masked."""

    def work(start: int, stop: int) -> list[list[float]]:
        few = texts[start:stop]
        longest = max(map(len, few))
        ids_BT = _tensor([[*ids, *[decoder.pad] * (longest - len(ids))] for ids in few], decoder)
        positions_BT = _tensor([[*range(len(ids)), *[NEVER] * (longest - len(ids))] for ids in few], decoder)
        hidden_BTD = decoder.model(
            input_ids=ids_BT,
            attention_mask=decoder.masks.build(positions_BT, positions_BT),
            position_ids=positions_BT.clamp(min=0),
            use_cache=False,
            output_hidden_states=True,
            logits_to_keep=1,
        ).hidden_states[-1]
        read_BT1 = (positions_BT >= 0)[:, :, None].to(hidden_BTD.device)
        mean_BD = (hidden_BTD.double() * read_BT1).sum(dim=1) / read_BT1.sum(dim=1)
        vectors: list[list[float]] = torch.nn.functional.normalize(mean_BD, dim=-1).tolist()
        return vectors

    return batch.map(work, len(texts))


def _tensor(rows: list[list[int]], decoder: Decoder) -> Tensor:
    return torch.tensor(rows, dtype=torch.long, device=decoder.device)
