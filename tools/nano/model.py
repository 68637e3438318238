"""The Qwen3 architecture at nano size, as pure JAX functions over a flat dict of parameters.

Parameter names are those of the Hugging Face layout without the `model.` prefix, so that the export is a rename.
Linear weights are stored [outputs, inputs], as the safetensors files of the Hugging Face layout have them.
"""
from dataclasses import dataclass

import jax
import jax.numpy as jnp


@dataclass(frozen=True)
class Config:
    """The shape of the network; every input dimension is a multiple of the quantization group (64)."""

    vocab_size: int = 2048
    hidden_size: int = 256
    intermediate_size: int = 512
    num_hidden_layers: int = 5
    num_attention_heads: int = 4
    num_key_value_heads: int = 2
    head_dim: int = 64
    rope_theta: float = 1_000_000.0
    rms_norm_eps: float = 1e-6
    max_position_embeddings: int = 65_536


def linear_shapes(config: Config) -> dict[str, tuple[int, int]]:
    """Names and [outputs, inputs] of one layer's linear weights."""
    hidden, inner = config.hidden_size, config.intermediate_size
    queries = config.num_attention_heads * config.head_dim
    keys = config.num_key_value_heads * config.head_dim
    return {
        "self_attn.q_proj": (queries, hidden),
        "self_attn.k_proj": (keys, hidden),
        "self_attn.v_proj": (keys, hidden),
        "self_attn.o_proj": (hidden, queries),
        "mlp.gate_proj": (inner, hidden),
        "mlp.up_proj": (inner, hidden),
        "mlp.down_proj": (hidden, inner),
    }


def init(config: Config, key) -> dict:
    """Fresh parameters: scaled normal weights, unit norms, zero-start residual outputs."""
    params = {"norm.weight": jnp.ones(config.hidden_size)}
    key, part = jax.random.split(key)
    params["embed_tokens.weight"] = 0.02 * jax.random.normal(part, (config.vocab_size, config.hidden_size))
    for layer in range(config.num_hidden_layers):
        prefix = f"layers.{layer}."
        for name in ("input_layernorm", "post_attention_layernorm"):
            params[f"{prefix}{name}.weight"] = jnp.ones(config.hidden_size)
        for name in ("q_norm", "k_norm"):
            params[f"{prefix}self_attn.{name}.weight"] = jnp.ones(config.head_dim)
        for name, shape in linear_shapes(config).items():
            key, part = jax.random.split(key)
            scale = 0.3 if name.endswith(("o_proj", "down_proj")) else 1.0
            params[f"{prefix}{name}.weight"] = scale * shape[1] ** -0.5 * jax.random.normal(part, shape)
    return params


def rms_norm(x, weight, eps):
    """Scales the last axis to unit mean square, then by `weight`."""
    return x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + eps) * weight


def rope_tables(config: Config, positions):
    """Cosines and sines for `positions` [..., T], shaped [..., T, 1, head_dim / 2]."""
    half = config.head_dim // 2
    frequencies = config.rope_theta ** (-jnp.arange(half, dtype=jnp.float32) / half)
    angles = positions[..., None].astype(jnp.float32) * frequencies
    return jnp.cos(angles)[..., None, :], jnp.sin(angles)[..., None, :]


def rotate(x, cosines, sines):
    """Applies the "rotate half" rotary embedding to [..., T, heads, head_dim]."""
    first, second = jnp.split(x, 2, axis=-1)
    return jnp.concatenate([first * cosines - second * sines, second * cosines + first * sines], axis=-1)


def linear(x, weight, dtype):
    """x @ weight.T with operands rounded to `dtype` and an f32 result."""
    return jnp.einsum("...i,oi->...o", x.astype(dtype), weight.astype(dtype), preferred_element_type=jnp.float32)


def attention(params, prefix, config, x, rope, mask, dtype):
    """Causal grouped-query attention with per-head query and key norms; `x` is [B, T, hidden]."""
    batch, length, _ = x.shape
    heads, groups, size = config.num_attention_heads, config.num_key_value_heads, config.head_dim
    q = linear(x, params[prefix + "q_proj.weight"], dtype).reshape(batch, length, heads, size)
    k = linear(x, params[prefix + "k_proj.weight"], dtype).reshape(batch, length, groups, size)
    v = linear(x, params[prefix + "v_proj.weight"], dtype).reshape(batch, length, groups, size)
    q = rotate(rms_norm(q, params[prefix + "q_norm.weight"], config.rms_norm_eps), *rope) * size**-0.5
    k = rotate(rms_norm(k, params[prefix + "k_norm.weight"], config.rms_norm_eps), *rope)
    q = q.reshape(batch, length, groups, heads // groups, size).transpose(0, 2, 3, 1, 4).astype(dtype)
    q = q.reshape(batch * groups, heads // groups * length, size)
    k = k.transpose(0, 2, 1, 3).reshape(batch * groups, length, size).astype(dtype)
    v = v.transpose(0, 2, 1, 3).reshape(batch * groups, length, size).astype(dtype)
    scores = jnp.einsum("bqd,bkd->bqk", q, k, preferred_element_type=jnp.float32)
    scores = scores.reshape(batch, groups, heads // groups, length, length)
    weights = jax.nn.softmax(jnp.where(mask[:, None, None], scores, -1e9), axis=-1)
    weights = weights.astype(dtype).reshape(batch * groups, heads // groups * length, length)
    mixed = jnp.einsum("bqk,bkd->bqd", weights, v, preferred_element_type=jnp.float32)
    mixed = mixed.reshape(batch, groups, heads // groups, length, size).transpose(0, 3, 1, 2, 4)
    return linear(mixed.reshape(batch, length, heads * size), params[prefix + "o_proj.weight"], dtype)


def feed_forward(params, prefix, x, dtype):
    """The SwiGLU block."""
    gate = jax.nn.silu(linear(x, params[prefix + "gate_proj.weight"], dtype))
    return linear(gate * linear(x, params[prefix + "up_proj.weight"], dtype), params[prefix + "down_proj.weight"], dtype)


def forward(params, config: Config, tokens, positions, segments, dtype=jnp.float32):
    """Hidden states after the last norm, [B, T, hidden]; a token sees earlier tokens of its own segment only."""
    length = tokens.shape[1]
    x = params["embed_tokens.weight"][tokens]
    rope = rope_tables(config, positions)
    causal = jnp.tril(jnp.ones((length, length), bool))
    mask = causal[None] & (segments[:, :, None] == segments[:, None, :])
    for layer in range(config.num_hidden_layers):
        prefix = f"layers.{layer}."
        normed = rms_norm(x, params[prefix + "input_layernorm.weight"], config.rms_norm_eps)
        x = x + attention(params, prefix + "self_attn.", config, normed, rope, mask, dtype)
        normed = rms_norm(x, params[prefix + "post_attention_layernorm.weight"], config.rms_norm_eps)
        x = x + feed_forward(params, prefix + "mlp.", normed, dtype)
    return rms_norm(x, params["norm.weight"], config.rms_norm_eps)


def logits(params, hidden, dtype=jnp.float32):
    """Scores over the vocabulary; the embedding is tied."""
    return linear(hidden, params["embed_tokens.weight"], dtype)
