"""The projection to the vocabulary of a model in half precision, with logits in float32: decisions are taken on them.

A logit of 20 in bfloat16 stands for everything between 19.94 and 20.06: the two likeliest of 49,152 tokens were equal
in 2 % of the places of a text, and a loss was off by its third digit. The hidden states and weights stay in half
precision; their products and sums are float32 in any case, and are only no longer rounded at the end.

Where nothing but the likeliest token is asked for (``largest_only``), a CPU need not compute them all so: products in
half precision tell which tokens can be the likeliest, a handful, and these are computed in float32.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from greater_ray.models._packed import can_pack

HALF = (torch.bfloat16, torch.float16)
_BLOCK = 64  # logits whose maximum is taken first, in search of the largest


class WideHead(nn.Linear):
    """An ``nn.Linear`` over the same parameters in half precision that returns float32.

    On a CPU it holds a copy of the weight in float32 (4 bytes per entry; packed where oneDNN is there).
    """

    def __init__(self, linear: nn.Linear) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight, self.bias = linear.weight, linear.bias
        self._wide: Tensor | None = None
        self._packed: Tensor | None = None
        self.largest_only = False
        if linear.weight.device.type == "cpu":
            wide = linear.weight.detach().float()
            self._wide = torch.ops.mkldnn._reorder_linear_weight(wide) if torch._C._has_mkldnn else wide
            if can_pack(linear):
                self._packed = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach())

    def forward(self, input: Tensor) -> Tensor:
        """Apply the layer to ``[..., D]``; a copy of the model in float32 or float64 computes in that."""
        input = input.to(self.weight.device)  # of a model over several devices; it may lie beside the embedding
        if self.weight.dtype not in HALF:
            return nn.functional.linear(input, self.weight, self.bias)
        if self.largest_only and self._packed is not None and not torch.is_grad_enabled():
            return self._with_exact_largest(input, self._packed)
        logits: Tensor = _WideProduct.apply(input, self)  # type: ignore[no-untyped-call]
        return logits if self.bias is None else logits + self.bias.float()

    def _with_exact_largest(self, input: Tensor, packed: Tensor) -> Tensor:
        """Return float32 logits ``[..., V]``: those that may be the largest exact, the others rounded to half.

        Rounding moves a logit by at most 2 ** -9 of itself. Four times that, and as much of 1 for sums taken in another
        order, is how near to the largest one another must come to be computed.
        """
        rough: Tensor = torch.ops.mkldnn._linear_pointwise.default(input, packed, self.bias, "none", [], "")
        logits = rough.float().view(-1, self.out_features)
        block = math.gcd(self.out_features, _BLOCK)
        by_block = logits.view(len(logits), -1, block)
        best_of_block = by_block.amax(dim=-1)
        largest = best_of_block.amax(dim=-1, keepdim=True)
        least = largest - (largest.abs() + 1) * 2**-7
        rows, blocks = (best_of_block >= least).nonzero(as_tuple=True)
        found, inside = (by_block[rows, blocks] >= least[rows]).nonzero(as_tuple=True)
        rows, tokens = rows[found], blocks[found] * block + inside
        exact = (input.reshape(-1, self.in_features)[rows].float() * self.weight[tokens].float()).sum(dim=-1)
        logits[rows, tokens] = exact if self.bias is None else exact + self.bias[tokens].float()
        return logits.view(rough.shape)

    def product(self, input: Tensor) -> Tensor:
        """Return ``input @ weight.T`` in float32, without autograd."""
        if input.device.type == "cuda":
            flat = torch.mm(input.reshape(-1, self.in_features), self.weight.t(), out_dtype=torch.float32)
            return flat.view(*input.shape[:-1], self.out_features)
        if self._wide is None:
            return nn.functional.linear(input.float(), self.weight.float())
        if not self._wide.is_mkldnn:
            return nn.functional.linear(input.float(), self._wide)
        wide: Tensor = torch.ops.mkldnn._linear_pointwise(input.float(), self._wide, None, "none", [], "")
        return wide


class _WideProduct(torch.autograd.Function):
    """``input @ weight.T`` in float32 for a frozen weight; the gradient of the input is in the input's dtype."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, head: WideHead) -> Tensor:
        """Compute the product; the weight is a constant."""
        ctx.weight = head.weight
        return head.product(input)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """Return the gradient of the input."""
        return gradients[0].to(ctx.weight.dtype) @ ctx.weight, None


def widen_head(model: Any) -> None:
    """Let a model in half precision project to its vocabulary in float32; other models stay as they are."""
    head = model.get_output_embeddings()
    if isinstance(head, nn.Linear) and not isinstance(head, WideHead) and head.weight.dtype in HALF:
        model.set_output_embeddings(WideHead(head))


@contextmanager
def largest_only(model: Any) -> Iterator[None]:
    """Within, nothing is read from a model's logits but which is the largest."""
    head = model.get_output_embeddings()
    if not isinstance(head, WideHead):
        yield
        return
    head.largest_only = True
    try:
        yield
    finally:
        head.largest_only = False
