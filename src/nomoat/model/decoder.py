"""The whole decoder: every family of ``families.py`` in one file. The losses over its head are in ``head_losses.py``.

Tokens are flat and packed: T new tokens of several segments, one after the other, described by a ``Layout``.
Letters: T tokens, D width, H heads, K key-value heads, C head width, F inner width, V vocabulary, n learned tokens.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from nomoat.kernels.attention import packed_attention
from nomoat.kernels.cross_entropy import Head, head_losses
from nomoat.kernels.glue import add, add_norm, gate_product, gated, rms_norm
from nomoat.model.cache import KVCache, Layout
from nomoat.model.config import ModelConfig
from nomoat.model.delta import EMPTY, AnyStack, MixedStack, deltas_at
from nomoat.model.head_losses import TokenLosses, adapted_losses, frozen_head
from nomoat.model.linear import Embedding, Linear, together
from nomoat.model.recompute import GateAndUp, Recipe, Recipes, Recompute
from nomoat.model.rotation import Rotation
from nomoat.model.step import DecodeStep


@dataclasses.dataclass(frozen=True, slots=True)
class Below:
    """What enters layer number ``layer``, (T, D), where the layers under it have run already."""

    layer: int
    hidden: Tensor


class RMSNorm(nn.Module):
    def __init__(self, weight: Tensor, eps: float) -> None:
        super().__init__()
        self.weight, self.eps = weight, eps

    def forward(self, x: Tensor) -> Tensor:
        return rms_norm(x, self.weight, self.eps)

    def after_adding(self, x: Tensor, added: Tensor | None, scale: float) -> tuple[Tensor, Tensor]:
        """``x + scale * added`` and its norm, in one pass both ways."""
        return add_norm(x, added, scale, self.weight, self.eps)

    def again(self, x: Tensor) -> Recipe:
        """A recipe for the norm of ``x``."""
        held = x.detach()
        return lambda: rms_norm(held, self.weight, self.eps)


class Attention(nn.Module):
    """Grouped-query attention; projections apart, or fused as Phi-3 stores them."""

    q_proj: Linear
    k_proj: Linear
    v_proj: Linear
    qkv_proj: Linear
    o_proj: Linear
    q_norm: RMSNorm
    k_norm: RMSNorm

    def __init__(self, config: ModelConfig, layer: int, parts: dict[str, Linear | RMSNorm]) -> None:
        super().__init__()
        self.config, self.layer = config, layer
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, x: Tensor, layout: Layout, rotation: Rotation, stack: AnyStack, cache: KVCache | None) -> Tensor:
        c = self.config
        q, k, v = self._project(x, stack)  # (T, H*C), (T, K*C) x 2
        if c.qk_norm == "full":
            q, k = self.q_norm(q), self.k_norm(k)
        q, k, v = q.view(-1, c.n_heads, c.head_dim), _heads(k, c), _heads(v, c)
        if c.qk_norm == "head":
            q, k = self.q_norm(q), self.k_norm(k)
        rope = c.layers[self.layer].rope
        out = self._attend(rotation(q, rope), rotation(k, rope), v, layout, cache)
        mixed: Tensor = self.o_proj(out.reshape(-1, c.n_heads * c.head_dim), stack)
        return mixed  # (T, D)

    def _project(self, x: Tensor, stack: AnyStack) -> tuple[Tensor, Tensor, Tensor]:
        c = self.config
        if not c.fused_projections:
            q, k, v = together((self.q_proj, self.k_proj, self.v_proj), x, stack)
            return q, k, v
        n_q, n_kv = c.n_heads * c.head_dim, c.n_kv_heads * c.head_dim
        q, k, v = self.qkv_proj(x, stack).split([n_q, n_kv, n_kv], dim=-1)
        return q.contiguous(), k, v

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, layout: Layout, cache: KVCache | None) -> Tensor:
        """q (T, H, C), k and v (T, K, C) of the new tokens -> (T, H, C); the cache is read and extended."""
        if cache is not None:
            cache.write(self.layer, layout, k, v)
            if not layout.fresh:
                k, v = cache.read(self.layer, layout)
        c = self.config
        window, softcap = c.layers[self.layer].window, c.attn_softcap
        return packed_attention(
            q, k, v, layout.lengths, layout.starts, scale=c.softmax_scale, window=window, softcap=softcap
        )


def _heads(x: Tensor, config: ModelConfig) -> Tensor:
    return x.reshape(-1, config.n_kv_heads, config.head_dim)


class Mlp(nn.Module):
    """down(act(gate(x)) * up(x))."""

    gate_proj: Linear
    up_proj: Linear
    gate_up_proj: Linear
    down_proj: Linear

    def __init__(self, config: ModelConfig, parts: dict[str, Linear]) -> None:
        super().__init__()
        self.config = config
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, x: Tensor, stack: AnyStack, remake: Recipe, recipes: Recipes) -> Tensor:
        """(T, D) -> (T, D); ``remake`` gives x again in backward."""
        gate, up = self._gate_and_up(x, stack)  # (T, F) x 2
        if recipes.policy == "mlp":
            again = GateAndUp(lambda: self._gate_and_up(remake(), stack))
            recipes.add(gate, again.gate)
            recipes.add(up, again.last_up)
        else:
            again = GateAndUp.kept(gate, up)
        activation = self.config.activation
        inner = gated(gate, up, activation)
        recipes.add(inner, lambda: gate_product(*again.both(), activation))
        out: Tensor = self.down_proj(inner, stack)
        return out

    def _gate_and_up(self, x: Tensor, stack: AnyStack) -> tuple[Tensor, Tensor]:
        if self.config.fused_projections:
            gate, up = self.gate_up_proj(x, stack).chunk(2, dim=-1)
            return gate, up
        gate, up = together((self.gate_proj, self.up_proj), x, stack)
        return gate, up


class Block(nn.Module):
    """One layer; where its norms stand is the family's choice."""

    input_layernorm: RMSNorm
    post_attention_layernorm: RMSNorm
    pre_feedforward_layernorm: RMSNorm
    post_feedforward_layernorm: RMSNorm

    def __init__(self, config: ModelConfig, attention: Attention, mlp: Mlp, norms: dict[str, RMSNorm]) -> None:
        super().__init__()
        self.config, self.self_attn, self.mlp = config, attention, mlp
        self.recompute: Recompute = "least"
        for name, norm in norms.items():
            self.add_module(name, norm)

    def forward(self, x: Tensor, layout: Layout, rotation: Rotation, stack: AnyStack, cache: KVCache | None) -> Tensor:
        """(T, D) -> (T, D)."""
        if self.recompute == "layer" and torch.is_grad_enabled():
            out: Tensor = checkpoint(self._run, x, layout, rotation, stack, cache, use_reentrant=False)
            return out
        return self._run(x, layout, rotation, stack, cache)

    def _run(self, x: Tensor, layout: Layout, rotation: Rotation, stack: AnyStack, cache: KVCache | None) -> Tensor:
        order, scale = self.config.norms, self.config.residual_scale
        inside = x
        with Recipes(self.recompute) as recipes:
            if order != "post":
                x, inside = self.input_layernorm.after_adding(x, None, scale)
                recipes.add(inside, self.input_layernorm.again(x))
            inside = self.self_attn(inside, layout, rotation, stack, cache)
        if order != "pre":
            inside = self.post_attention_layernorm(inside)
        with Recipes(self.recompute) as recipes:
            x, inside, remake = self._before_mlp(x, inside)
            recipes.add(inside, remake)
            inside = self.mlp(inside, stack, remake, recipes)
        if order != "pre":
            inside = self.post_feedforward_layernorm(inside)
        return add(x, inside, scale)

    def _before_mlp(self, x: Tensor, added: Tensor) -> tuple[Tensor, Tensor, Recipe]:
        """The residual stream after attention, what the MLP sees of it, and how to make that again."""
        scale = self.config.residual_scale
        if self.config.norms == "post":
            x = add(x, added, scale)
            held = x.detach()
            return x, x, lambda: held
        norm = self.post_attention_layernorm if self.config.norms == "pre" else self.pre_feedforward_layernorm
        x, inside = norm.after_adding(x, added, scale)
        return x, inside, norm.again(x)


class Decoder(nn.Module):
    """Embedding, blocks, norm, head. All weights are frozen; only a stack's adapters carry gradients."""

    def __init__(self, config: ModelConfig, embed: Embedding, blocks: list[Block], norm: RMSNorm, head: Linear) -> None:
        super().__init__()
        self.config, self.embed_tokens, self.norm, self.lm_head = config, embed, norm, head
        self.layers = nn.ModuleList(blocks)
        self._ropes = {layer.rope for layer in config.layers if layer.rope is not None}
        self._step = DecodeStep(self)

    def forward(
        self,
        tokens: Tensor,
        layout: Layout,
        stack: AnyStack = EMPTY,
        cache: KVCache | None = None,
        below: Below | None = None,
    ) -> Tensor:
        """Hidden states after the last norm, going on from ``below`` where it is given. tokens (T,) -> (T, D)."""
        rotation = Rotation(layout.positions().to(tokens.device), self._ropes)
        first, x = (0, self._embed(tokens, stack)) if below is None else (below.layer, below.hidden)
        if cache is not None and first == 0 and self._step.takes(layout, stack, cache):
            return self._step.run(x, layout, stack, cache, rotation.angles)
        for block in self.layers[first:]:
            x = block(x, layout, rotation, stack, cache)
        out: Tensor = self.norm(x)
        return out

    @torch.no_grad()
    def entering(self, tokens: Tensor, layout: Layout, layer: int) -> Tensor:
        """What the bare base hands to layer number ``layer``. tokens (T,) -> (T, D)."""
        rotation = Rotation(layout.positions().to(tokens.device), self._ropes)
        x = self._embed(tokens, EMPTY)
        for block in self.layers[:layer]:
            x = block(x, layout, rotation, EMPTY, None)
        return x

    def _embed(self, tokens: Tensor, stack: AnyStack) -> Tensor:
        x: Tensor = self.embed_tokens(tokens, stack)
        return x if self.config.embed_scale == 1.0 else x * self.config.embed_scale

    def choose_recompute(self, policy: Recompute) -> None:
        """What training keeps for backward, from the next step on; no result depends on it."""
        for block in self.layers:
            block.recompute = policy  # type: ignore[assignment]

    def logits(self, hidden: Tensor, stack: AnyStack = EMPTY) -> Tensor:
        """Scores of the next token; a mixed stack's lengths count these rows. (n, D) -> (n, V)."""
        if self.head_is_adapted(stack) or hidden.shape[0] <= 16:
            return self.head().bend_(self.lm_head(hidden, stack))
        return self.head().logits(hidden)

    def next_token_losses(
        self, tokens: Tensor, layout: Layout, loss_mask: Tensor, stack: AnyStack = EMPTY, below: Below | None = None
    ) -> TokenLosses:
        """Losses of the tokens that ``loss_mask`` (T,) marks, first tokens of segments left out.

        Never holds the logits of more than a chunk of rows; differentiable in the stack's adapters.
        """
        places = layout.learned(loss_mask)  # (n,)
        hidden = self(tokens, layout, stack, below=below).index_select(0, places - 1)
        targets = tokens[places]
        if self.head_is_adapted(stack):
            worn = stack.take(places - 1) if isinstance(stack, MixedStack) else stack
            return adapted_losses(self.lm_head, self.config, hidden, targets, worn)
        return TokenLosses(*head_losses(hidden, targets, self.head()))

    def head_is_adapted(self, stack: AnyStack) -> bool:
        """Whether an adapter of the stack stands on the head."""
        return any(True for _ in deltas_at(stack, self.lm_head.name))

    def head(self) -> Head:
        """The frozen head as losses see it."""
        return frozen_head(self.lm_head, self.config)
