"""Sampling from a small Llama on one core, several times faster than through the library's modules.

Attempts of one prompt share its keys and values, which are read once for all of them; everything a step needs is a
handful of matrix products. The numbers are checked against the library's own forward pass (tests/benchmarks).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

_GROW = 48


class FastLlama:
    """Decodes from a `LlamaForCausalLM` without dropout, biases or grouped heads, whose weights it reads as they are.

    Raises ValueError for a model of another shape.
    """

    def __init__(self, model: Any) -> None:
        config = model.config
        self.heads = int(config.num_attention_heads)
        if int(config.num_key_value_heads) != self.heads or config.attention_bias or config.mlp_bias:
            raise ValueError("grouped heads and biases are not handled")
        self.model = model
        self.width = int(config.hidden_size)
        self.head = self.width // self.heads
        self.eps = float(config.rms_norm_eps)
        self.load()

    def load(self) -> None:
        """Take the weights as they are now; call it after they have changed."""
        model = self.model.model
        with torch.no_grad():
            self._embed = model.embed_tokens.weight.detach()
            self._layers = []
            for layer in model.layers:
                attention, mlp = layer.self_attn, layer.mlp
                first, second = layer.input_layernorm.weight, layer.post_attention_layernorm.weight
                qkv = torch.cat([attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight]) * first
                gate = torch.cat([mlp.gate_proj.weight, mlp.up_proj.weight]) * second
                self._layers.append(
                    (
                        qkv.t().contiguous(),
                        attention.o_proj.weight.t().contiguous(),
                        gate.t().contiguous(),
                        mlp.down_proj.weight.t().contiguous(),
                    )
                )
            self._out = (self.model.lm_head.weight * model.norm.weight).t().contiguous()
            inverse = model.rotary_emb.inv_freq.float()
            angles = torch.arange(1024)[:, None] * inverse[None, :]
            self._cos = torch.cat([angles.cos(), angles.cos()], -1)
            self._sin = torch.cat([-angles.sin(), angles.sin()], -1)

    def _norm(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps)

    def _turn(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        return x * cos + x.roll(self.head // 2, -1) * sin

    def _mlp(self, x: torch.Tensor, gate: torch.Tensor, down: torch.Tensor) -> torch.Tensor:
        both = self._norm(x) @ gate
        half = both.shape[-1] // 2
        return x + (torch.nn.functional.silu(both[..., :half]) * both[..., half:]) @ down

    def read(self, prompts: Sequence[Sequence[int]]) -> tuple[list[tuple[torch.Tensor, torch.Tensor]], torch.Tensor]:
        """Keys and values [G, H, P, d] of each layer, prompts padded on the right, and logits after each [G, V]."""
        lengths = torch.tensor([len(prompt) for prompt in prompts])
        width = int(lengths.max())
        ids = torch.zeros(len(prompts), width, dtype=torch.long)
        for row, prompt in enumerate(prompts):
            ids[row, : len(prompt)] = torch.tensor(prompt)
        x = self._embed[ids]
        cos, sin = self._cos[:width], self._sin[:width]
        kept = []
        for qkv, out, gate, down in self._layers:
            q, k, v = (self._norm(x) @ qkv).view(len(prompts), width, 3, self.heads, self.head).permute(2, 0, 3, 1, 4)
            q, k = self._turn(q, cos, sin), self._turn(k, cos, sin)
            mixed = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + mixed.transpose(1, 2).reshape(len(prompts), width, self.width) @ out
            x = self._mlp(x, gate, down)
            kept.append((k.contiguous(), v.contiguous()))
        last = x[torch.arange(len(prompts)), lengths - 1]
        return kept, self._norm(last) @ self._out

    @torch.inference_mode()
    def sample(
        self, prompts: Sequence[Sequence[int]], attempts: int, seeds: NDArray[np.int64], ends: Sequence[int], most: int
    ) -> list[list[tuple[int, ...]]]:
        """`attempts` completions of each prompt at temperature 1, the end token included.

        seeds: [G, attempts]; each completion's draws are made from its own seed alone.
        """
        groups, heads, head = len(prompts), self.heads, self.head
        lengths = torch.tensor([len(prompt) for prompt in prompts])
        cache, logits = self.read(prompts)
        width = int(lengths.max())
        padding = torch.zeros(groups, 1, 1, width).masked_fill_(
            (torch.arange(width)[None, :] >= lengths[:, None])[:, None, None], float("-inf")
        )
        streams = [np.random.Generator(np.random.Philox(key=int(seed))) for seed in seeds.reshape(-1)]
        uniforms = torch.from_numpy(np.stack([stream.random(most) for stream in streams])).view(groups, attempts, most)
        own = [
            (torch.empty(groups, heads, attempts, most, head), torch.empty(groups, heads, attempts, most, head))
            for _ in self._layers
        ]
        logits = logits[:, None].expand(groups, attempts, -1)
        alive = torch.ones(groups, attempts, dtype=torch.bool)
        index = torch.arange(groups)
        stop = torch.tensor(list(ends))
        drawn = torch.full((groups, attempts, most), -1)
        scale = head**-0.5
        for t in range(most):
            cumulative = torch.softmax(logits.double(), -1).cumsum(-1)
            target = uniforms[index, :, t, None] * cumulative[..., -1:]
            token = torch.searchsorted(cumulative, target, right=True).squeeze(-1).clamp_(max=logits.shape[-1] - 1)
            drawn[index, :, t] = torch.where(alive, token, torch.tensor(-1))
            alive = alive & ~(token[..., None] == stop).any(-1)
            keep = alive.any(-1)
            if not bool(keep.any()):
                break
            if int(keep.sum()) <= 0.75 * len(keep):
                index, alive, token, lengths, padding = (
                    index[keep],
                    alive[keep],
                    token[keep],
                    lengths[keep],
                    padding[keep],
                )
                cache = [(k[keep], v[keep]) for k, v in cache]
                own = [(k[keep], v[keep]) for k, v in own]
            n = len(index)
            at = lengths + t
            cos, sin = self._cos[at][:, None, None], self._sin[at][:, None, None]
            x = self._embed[token]
            for layer, (qkv, out, gate, down) in enumerate(self._layers):
                q, k, v = (self._norm(x) @ qkv).view(n, attempts, 3, heads, head).permute(2, 0, 3, 1, 4)
                q, k = self._turn(q, cos, sin) * scale, self._turn(k, cos, sin)
                keys, values = own[layer]
                keys[:, :, :, t], values[:, :, :, t] = k, v
                prompt_keys, prompt_values = cache[layer]
                far = q @ prompt_keys.transpose(-1, -2) + padding
                near = (keys[:, :, :, : t + 1] * q[..., None, :]).sum(-1)
                weights = torch.softmax(torch.cat([far, near], -1), -1)
                mixed = weights[..., :width] @ prompt_values
                mixed = mixed + (weights[..., width:, None] * values[:, :, :, : t + 1]).sum(-2)
                x = x + mixed.transpose(1, 2).reshape(n, attempts, self.width) @ out
                x = self._mlp(x, gate, down)
            logits = self._norm(x) @ self._out
        rows = drawn.tolist()
        return [[tuple(token for token in row if token >= 0) for row in group] for group in rows]
