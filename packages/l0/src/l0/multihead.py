"""Plain multi-head attention whose heads need not fill the embedding: what shrinking leaves."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from l0.errors import InvalidSetting, ShapeMismatch


class MultiheadAttention(nn.Module):
    """Multi-head attention whose heads need not fill the embedding.

    As `torch.nn.MultiheadAttention`, with the same names of parameters, except that the size of a
    head is a setting of its own. So heads can be taken away, down to none, and the others stay as
    they are. It has neither `add_bias_kv` nor `add_zero_attn`.

    Args:
        embed_dim: Size of a query, and of an output.
        num_heads: Number of heads, 0 or more.
        dropout: Share of the attention weights that are dropped in training mode.
        bias: Whether the projections have a bias.
        head_dim: Size of a head; `embed_dim // num_heads` if not given.
        kdim: Size of a key; `embed_dim` if not given.
        vdim: Size of a value; `embed_dim` if not given.
        batch_first: Whether the batch is the first axis of the data, not the second.
        device: Where the parameters live.
        dtype: Their type.

    Raises:
        InvalidSetting: If `head_dim` is not given and `embed_dim` is no multiple of `num_heads`,
            or `dropout` is not in `[0, 1]`.

    Examples:
        >>> two_of_eight_heads = MultiheadAttention(64, num_heads=2, head_dim=8, batch_first=True)
        >>> x = torch.ones(5, 10, 64)
        >>> two_of_eight_heads(x, x, x, need_weights=False)[0].shape
        torch.Size([5, 10, 64])
    """

    in_proj_weight: Tensor | None
    q_proj_weight: Tensor | None
    k_proj_weight: Tensor | None
    v_proj_weight: Tensor | None
    in_proj_bias: Tensor | None

    # `nn.TransformerEncoderLayer` asks for it before it takes a road that would see neither gates
    # nor the size of a head. Here it must never take it.
    _qkv_same_embed_dim = False

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        *,
        head_dim: int | None = None,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if head_dim is None and (num_heads < 1 or embed_dim % num_heads):
            raise InvalidSetting(
                f"an embedding of {embed_dim} cannot be split into {num_heads} heads. Give a "
                "multiple, or `head_dim`."
            )
        if not 0 <= dropout <= 1:
            raise InvalidSetting(f"`dropout` is {dropout}, but must be in [0, 1], not percent.")
        self.embed_dim = embed_dim
        self.num_heads = num_heads
        self.head_dim = embed_dim // num_heads if head_dim is None else head_dim
        self.dropout = dropout
        self.kdim = embed_dim if kdim is None else kdim
        self.vdim = embed_dim if vdim is None else vdim
        self.batch_first = batch_first

        inner = self.num_heads * self.head_dim
        widths = {
            "q_proj_weight": embed_dim,
            "k_proj_weight": self.kdim,
            "v_proj_weight": self.vdim,
        }
        together = set(widths.values()) == {embed_dim}
        shapes = {"in_proj_weight": (3 * inner, embed_dim) if together else None}
        for name, width in widths.items():
            shapes[name] = None if together else (inner, width)
        for name, shape in shapes.items():
            empty = None if shape is None else torch.empty(shape, device=device, dtype=dtype)
            self.register_parameter(name, None if empty is None else nn.Parameter(empty))
        zeros = torch.zeros(3 * inner, device=device, dtype=dtype) if bias else None
        self.register_parameter("in_proj_bias", None if zeros is None else nn.Parameter(zeros))
        self.out_proj = nn.Linear(max(inner, 1), embed_dim, bias, device=device, dtype=dtype)
        if not inner:  # A layer without inputs cannot be made: PyTorch warns that it is empty.
            self.out_proj.in_features = 0
            self.out_proj.weight = nn.Parameter(self.out_proj.weight.detach()[:, :0].clone())
        for _, weight in self._input_weights():
            if weight.numel():
                nn.init.xavier_uniform_(weight)
        if bias:
            nn.init.zeros_(self.out_proj.bias)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Attend, as `torch.nn.MultiheadAttention` does, with arguments of the same names.

        Args:
            query: Shape `(n_queries, batch, embed_dim)`, or `(batch, n_queries, embed_dim)` with
                `batch_first`, or `(n_queries, embed_dim)` without a batch.
            key: As `query`, with `n_keys` and `kdim`.
            value: As `key`, with `vdim`.
            key_padding_mask: Keys to leave out, booleans of shape `(batch, n_keys)`; or numbers
                to add to the scores.
            need_weights: Whether to return the attention weights as well, which is slower.
            attn_mask: Pairs to leave out, or numbers to add to the scores, of shape
                `(n_queries, n_keys)` or `(batch * num_heads, n_queries, n_keys)`.
            average_attn_weights: Whether to return the mean of the weights over all heads.
            is_causal: Whether a query sees earlier keys only. With `attn_mask`, it is a remark
                that the mask says so, and the mask is what counts.

        Returns:
            The output, of the shape of `query`, and the weights or None: shape
            `(batch, n_queries, n_keys)`, with `num_heads` after the batch if not averaged. None
            if there are no heads.

        Raises:
            ShapeMismatch: If the data or the masks do not fit together.
        """
        self._check_shapes(query, key, value)
        batched = query.ndim == 3
        batch_axis = 0 if self.batch_first or not batched else 1
        if not self.num_heads:
            # Said outright, as not every kernel and exporter takes tensors without entries.
            output = torch.zeros_like(query)
            return output if self.out_proj.bias is None else output + self.out_proj.bias, None
        rows = [x if batched else x.unsqueeze(0) for x in (query, key, value)]
        q, k, v = (self._split(x.transpose(0, batch_axis)) for x in self._project(*rows))
        # Without masks, the kernels know by themselves that later keys are not seen.
        bare = attn_mask is None and key_padding_mask is None and not need_weights
        causal = is_causal and bare
        mask = self._merged_mask(attn_mask, key_padding_mask, q, k, is_causal and not causal)
        dropped = self.dropout if self.training else 0.0
        weights: Tensor | None = None
        if need_weights:
            scores = q @ k.transpose(-1, -2) / math.sqrt(self.head_dim)
            weights = functional.softmax(scores if mask is None else scores + mask, dim=-1)
            weights = functional.dropout(weights, dropped)
            heads = weights @ v
        else:
            heads = functional.scaled_dot_product_attention(q, k, v, mask, dropped, causal)
        output = self._merge(heads).transpose(0, batch_axis)
        if weights is not None and average_attn_weights:
            weights = weights.mean(dim=1)
        if batched:
            return output, weights
        return output.squeeze(0), None if weights is None else weights.squeeze(0)

    def _input_weights(self) -> Iterator[tuple[str, Tensor]]:
        for name in ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight"):
            weight = getattr(self, name)
            if weight is not None:
                yield name, weight

    def _project(self, query: Tensor, key: Tensor, value: Tensor) -> Iterator[Tensor]:
        biases = [None] * 3 if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
        if self.in_proj_weight is not None and query is key and key is value:
            projected = functional.linear(query, self.in_proj_weight, self.in_proj_bias)
            return iter(projected.chunk(3, dim=-1))
        weights = [weight for _, weight in self._input_weights()]
        if self.in_proj_weight is not None:
            weights = list(self.in_proj_weight.chunk(3))
        return map(functional.linear, (query, key, value), weights, biases)

    def _split(self, rows: Tensor) -> Tensor:
        """From `(batch, n, num_heads * head_dim)` to `(batch, num_heads, n, head_dim)`."""
        split = rows.view(*rows.shape[:-1], self.num_heads, self.head_dim)
        return split.transpose(1, 2)

    def _merge(self, heads: Tensor) -> Tensor:
        """The output projection of all heads together."""
        output: Tensor = self.out_proj(heads.transpose(1, 2).flatten(2))
        return output

    def _merged_mask(
        self,
        attn_mask: Tensor | None,
        key_padding_mask: Tensor | None,
        q: Tensor,
        k: Tensor,
        is_causal: bool,
    ) -> Tensor | None:
        batch, n_queries, n_keys = len(q), q.shape[2], k.shape[2]
        terms = []
        if attn_mask is None and is_causal:
            attn_mask = torch.ones(n_queries, n_keys, dtype=torch.bool, device=q.device).triu(1)
        if attn_mask is not None:
            pairs = _as_scores(attn_mask, q)
            if pairs.shape == (batch * self.num_heads, n_queries, n_keys):
                pairs = pairs.view(batch, self.num_heads, n_queries, n_keys)
            elif pairs.shape != (n_queries, n_keys):
                raise ShapeMismatch(
                    f"`attn_mask` is {tuple(pairs.shape)}. Give ({n_queries}, {n_keys}), or "
                    f"({batch * self.num_heads}, {n_queries}, {n_keys}) with one for each head."
                )
            terms.append(pairs)
        if key_padding_mask is not None:
            keys = _as_scores(key_padding_mask, q)
            if keys.shape != (batch, n_keys) and (batch, *keys.shape) != (1, n_keys):
                raise ShapeMismatch(
                    f"`key_padding_mask` is {tuple(keys.shape)}. Give ({batch}, {n_keys})."
                )
            terms.append(keys.view(batch, 1, 1, n_keys))
        return sum(terms[1:], start=terms[0]) if terms else None

    def _check_shapes(self, query: Tensor, key: Tensor, value: Tensor) -> None:
        widths = self.embed_dim, self.kdim, self.vdim
        tensors = query, key, value
        fit = all(x.shape[-1] == width for x, width in zip(tensors, widths, strict=True))
        if query.ndim not in {2, 3} or not fit or key.shape[:-1] != value.shape[:-1]:
            raise ShapeMismatch(
                f"query {tuple(query.shape)}, key {tuple(key.shape)} and value "
                f"{tuple(value.shape)} do not fit. Their last sizes must be {widths}, after the "
                "number of tokens and the batch; keys and values come in pairs."
            )

    def extra_repr(self) -> str:
        """Settings, for `print(model)`."""
        return f"{self.embed_dim}, {self.num_heads} heads of {self.head_dim}"


def _as_scores(mask: Tensor, like: Tensor) -> Tensor:
    """Numbers to add to the scores: minus infinity where a boolean mask leaves a pair out."""
    if mask.dtype == torch.bool:
        return torch.zeros_like(mask, dtype=like.dtype).masked_fill_(mask, -math.inf)
    return mask.to(like.dtype)
