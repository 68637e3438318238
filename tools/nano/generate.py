"""Greedy decoding of batches with a key-value cache, for the held-out score."""
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from model import Config, linear, rms_norm, rope_tables, rotate, feed_forward, logits


def attend(params, prefix, config: Config, x, positions, cache):
    """Attention of [B, T] new tokens at `positions` over the cache, which it extends; cache is [2, B, S, groups, size]."""
    batch, length, _ = x.shape
    heads, groups, size = config.num_attention_heads, config.num_key_value_heads, config.head_dim
    project = lambda name, count: linear(x, params[f"{prefix}{name}_proj.weight"], jnp.float32).reshape(batch, length, count, size)
    rope = rope_tables(config, positions)
    q = rotate(rms_norm(project("q", heads), params[prefix + "q_norm.weight"], config.rms_norm_eps), *rope)
    k = rotate(rms_norm(project("k", groups), params[prefix + "k_norm.weight"], config.rms_norm_eps), *rope)
    rows = jnp.arange(batch)[:, None]
    cache = cache.at[0, rows, positions].set(k).at[1, rows, positions].set(project("v", groups))
    q = q.reshape(batch, length, groups, heads // groups, size)
    scores = jnp.einsum("btgrd,bsgd->bgrts", q, cache[0]) * size**-0.5
    visible = jnp.arange(cache.shape[2])[None, None] <= positions[:, :, None]
    weights = jax.nn.softmax(jnp.where(visible[:, None, None], scores, -1e9), axis=-1)
    mixed = jnp.einsum("bgrts,bsgd->btgrd", weights, cache[1]).reshape(batch, length, heads * size)
    return linear(mixed, params[prefix + "o_proj.weight"], jnp.float32), cache


@partial(jax.jit, static_argnames="config")
def advance(params, config: Config, tokens, positions, last, caches):
    """Feeds [B, T] tokens; returns the best next token at index `last` of each row, and the caches."""
    x, grown = params["embed_tokens.weight"][tokens], []
    for layer, cache in enumerate(caches):
        prefix = f"layers.{layer}."
        normed = rms_norm(x, params[prefix + "input_layernorm.weight"], config.rms_norm_eps)
        mixed, cache = attend(params, prefix + "self_attn.", config, normed, positions, cache)
        x = x + mixed
        x = x + feed_forward(params, prefix + "mlp.", rms_norm(x, params[prefix + "post_attention_layernorm.weight"], config.rms_norm_eps), jnp.float32)
        grown.append(cache)
    hidden = rms_norm(x, params["norm.weight"], config.rms_norm_eps)[jnp.arange(len(tokens)), last]
    return jnp.argmax(logits(params, hidden), axis=-1), grown


def greedy(params, config: Config, prompts: list[list[int]], limit: int, end: int, rows: int = 16) -> list[list[int]]:
    """Continues each prompt to `end` (kept) or to `limit` tokens."""
    params = {name: jnp.asarray(value) for name, value in params.items()}
    order, answers = sorted(range(len(prompts)), key=lambda i: len(prompts[i])), [None] * len(prompts)
    for start in range(0, len(order), rows):
        group = order[start:start + rows]
        filled = group + [group[0]] * (rows - len(group))
        lengths = np.array([len(prompts[i]) for i in filled])
        width = -(-int(lengths.max()) // 64) * 64
        tokens = np.zeros((rows, width), np.int32)
        for row, i in enumerate(filled):
            tokens[row, : lengths[row]] = prompts[i]
        caches = [jnp.zeros((2, rows, width + limit, config.num_key_value_heads, config.head_dim))] * config.num_hidden_layers
        positions = np.broadcast_to(np.arange(width), tokens.shape)
        chosen, caches = advance(params, config, tokens, positions, lengths - 1, caches)
        outputs = [np.asarray(chosen)]
        for offset in range(limit - 1):
            if all((np.stack(outputs) == end).any(0)):
                break
            chosen, caches = advance(params, config, outputs[-1][:, None], (lengths + offset)[:, None], np.zeros(rows, int), caches)
            outputs.append(np.asarray(chosen))
        for row, i in enumerate(group):
            said = [int(step[row]) for step in outputs]
            answers[i] = said[: said.index(end) + 1] if end in said else said
    return answers
