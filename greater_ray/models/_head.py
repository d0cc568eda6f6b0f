"""The projection to the vocabulary of a model in half precision, with logits in float32: decisions are taken on them.

A logit of 20 in bfloat16 stands for everything between 19.94 and 20.06: the two likeliest of 49,152 tokens were equal
in 2 % of the places of a text, and a loss was off by its third digit. The hidden states and weights stay in half
precision; their products and sums are float32 in any case, and are only no longer rounded at the end.
"""

from typing import Any

import torch
from torch import Tensor, nn

HALF = (torch.bfloat16, torch.float16)


class WideHead(nn.Linear):
    """An ``nn.Linear`` over the same parameters in half precision that returns float32.

    On a CPU it holds a copy of the weight in float32 (4 bytes per entry; packed where oneDNN is there).
    """

    def __init__(self, linear: nn.Linear) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight, self.bias = linear.weight, linear.bias
        self._wide: Tensor | None = None
        if linear.weight.device.type == "cpu":
            wide = linear.weight.detach().float()
            self._wide = torch.ops.mkldnn._reorder_linear_weight(wide) if torch._C._has_mkldnn else wide

    def forward(self, input: Tensor) -> Tensor:
        """Apply the layer to ``[..., D]``; a copy of the model in float32 or float64 computes in that."""
        input = input.to(self.weight.device)  # of a model over several devices; it may lie beside the embedding
        if self.weight.dtype not in HALF:
            return nn.functional.linear(input, self.weight, self.bias)
        logits: Tensor = _WideProduct.apply(input, self)  # type: ignore[no-untyped-call]
        return logits if self.bias is None else logits + self.bias.float()

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
