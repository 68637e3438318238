"""The nomic-bert architecture at nano size, as pure JAX functions over a flat dict of parameters.

Parameter names are those of the model folder, so that the export is a copy. Rotary positions, a norm after each branch, a
SiLU-gated MLP; a text's vector is the mean of its tokens, at length 1.
"""
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from model import linear, rotate


@dataclass(frozen=True)
class Config:
    """The shape of the network; every input dimension is a multiple of the quantization group (64)."""

    vocab_size: int = 4096
    hidden_size: int = 256
    intermediate_size: int = 512
    num_hidden_layers: int = 2
    num_attention_heads: int = 4
    rope_theta: float = 1000.0
    layer_norm_eps: float = 1e-5
    max_position_embeddings: int = 2048


def shapes(config: Config) -> dict[str, tuple[int, int]]:
    """Names and [outputs, inputs] of one layer's matrices."""
    hidden, inner = config.hidden_size, config.intermediate_size
    return {
        "attn.Wqkv": (3 * hidden, hidden), "attn.out_proj": (hidden, hidden),
        "mlp.fc11": (inner, hidden), "mlp.fc12": (inner, hidden), "mlp.fc2": (hidden, inner),
    }


def init(config: Config, key) -> dict:
    """Fresh parameters: scaled normal weights, unit norms, small residual outputs."""
    hidden = config.hidden_size
    key, part = jax.random.split(key)
    params = {"embeddings.word_embeddings.weight": jax.random.normal(part, (config.vocab_size, hidden)) * 0.5}
    norms = ["emb_ln"] + [f"encoder.layers.{layer}.norm{n}" for layer in range(config.num_hidden_layers) for n in (1, 2)]
    for name in norms:
        params[f"{name}.weight"], params[f"{name}.bias"] = jnp.ones(hidden), jnp.zeros(hidden)
    for layer in range(config.num_hidden_layers):
        for name, shape in shapes(config).items():
            key, part = jax.random.split(key)
            scale = 0.3 if name.endswith(("out_proj", "fc2")) else 1.0
            params[f"encoder.layers.{layer}.{name}.weight"] = scale * shape[1] ** -0.5 * jax.random.normal(part, shape)
    return params


def norm(params, name, x, eps):
    """The layer norm of module `name`."""
    centred = x - jnp.mean(x, axis=-1, keepdims=True)
    scaled = centred * jax.lax.rsqrt(jnp.mean(centred * centred, axis=-1, keepdims=True) + eps)
    return scaled * params[f"{name}.weight"] + params[f"{name}.bias"]


def attention(params, prefix, config, x, rope, mask):
    """Every token sees every token of its text."""
    rows, length, hidden = x.shape
    heads = config.num_attention_heads
    size = hidden // heads
    qkv = linear(x, params[prefix + "Wqkv.weight"], jnp.float32).reshape(rows, length, 3, heads, size)
    q, k, v = rotate(qkv[:, :, 0], *rope), rotate(qkv[:, :, 1], *rope), qkv[:, :, 2]
    scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) * size**-0.5
    weights = jax.nn.softmax(jnp.where(mask[:, None, None, :], scores, -1e9), axis=-1)
    mixed = jnp.einsum("bhqk,bkhd->bqhd", weights, v).reshape(rows, length, hidden)
    return linear(mixed, params[prefix + "out_proj.weight"], jnp.float32)


def feed_forward(params, prefix, x):
    gate = jax.nn.silu(linear(x, params[prefix + "fc12.weight"], jnp.float32))
    return linear(gate * linear(x, params[prefix + "fc11.weight"], jnp.float32), params[prefix + "fc2.weight"], jnp.float32)


def vectors(params, config: Config, tokens):
    """The mean of each row's tokens after the last layer, [rows, hidden]; token 0 is padding."""
    mask = tokens > 0
    half = config.hidden_size // config.num_attention_heads // 2
    angles = jnp.arange(tokens.shape[1])[:, None] * config.rope_theta ** (-jnp.arange(half) / half)
    rope = jnp.cos(angles)[:, None, :], jnp.sin(angles)[:, None, :]
    x = norm(params, "emb_ln", params["embeddings.word_embeddings.weight"][tokens], config.layer_norm_eps)
    for layer in range(config.num_hidden_layers):
        prefix = f"encoder.layers.{layer}."
        x = norm(params, prefix + "norm1", x + attention(params, prefix + "attn.", config, x, rope, mask), config.layer_norm_eps)
        x = norm(params, prefix + "norm2", x + feed_forward(params, prefix + "mlp.", x), config.layer_norm_eps)
    return jnp.sum(x * mask[..., None], axis=1) / jnp.sum(mask, axis=1, keepdims=True)


def unit(x, dimensions=None):
    """The first dimensions of each vector, at length 1."""
    x = x[..., :dimensions]
    return x / jnp.linalg.norm(x, axis=-1, keepdims=True)
