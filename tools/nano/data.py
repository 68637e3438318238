"""Training data: a mixture of the generated forms, tokenized and packed into fixed rows.

Everything is drawn from the seed. Each row holds whole conversations; attention stays inside a conversation, and only
what the assistant says is learned (a few other tokens fill the fixed number of targets at a low weight).
"""
import random
from dataclasses import dataclass, field

import numpy as np
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

import calls
import facts
import talk
from render import pieces
from words import Words

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
MARKS = ["<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<tools>", "</tools>"]
# Only lower-case words carry their space, so that a name has the same tokens everywhere and can be copied.
SPLIT = r" ?\p{Ll}+|\p{Lu}+\p{Ll}*|\p{N}| ?[^\s\p{L}\p{N}]+|\p{L}+|\n+|[^\S\n]+"
MIXTURE = [("extraction", 34), ("calls", 17), ("about", 16), ("memory", 8), ("json", 9), ("echo", 7), ("unknown", 5), ("listing", 3), ("arithmetic", 2)]
OTHER_WEIGHT = 0.1


@dataclass
class Sample:
    """One conversation; `expected` is the value that a right last answer contains or equals."""

    form: str
    messages: list[dict]
    expected: str = ""
    tools: list[str] = field(default_factory=list)


def draw(words: Words, form: str, long: bool = False) -> Sample:
    """One conversation of a form; `long` ones have many facts or a long foreign system prompt."""
    if form == "extraction":
        count = words.rng.randint(6, 22) if long else None
        sample = Sample(form, *facts.extraction(words, count, words.rng.randint(0, 20) if long else None, words.rng.randint(3, 9) if long else None))
    elif form == "json":
        sample = Sample(form, *facts.json_form(words))
    elif form == "calls":
        messages, tools, expected = calls.conversation(words)
        sample = Sample(form, messages, expected, tools)
    elif form in ("about", "unknown"):
        messages = getattr(talk, form)(words)
        sample = Sample(form, messages, messages[-1]["content"])
    else:
        sample = Sample(form, *getattr(talk, form)(words))
    if sample.messages[0]["role"] != "system" and words.chance(0.75 if long else 0.3):
        budget = words.one([60, 300, 500]) if long else words.one([0, 0, 10, 30, 70])
        sample.messages = [{"role": "system", "content": talk.system(words, budget)}] + sample.messages
    return sample


def mixed(words: Words, long: bool = False) -> Sample:
    forms, weights = zip(*MIXTURE)
    return draw(words, words.rng.choices(forms, weights)[0], long)


def train_tokenizer(seed: int, vocab_size: int) -> Tokenizer:
    """Byte-level BPE over a sample of the mixture, with single digits."""
    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(SPLIT), behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    words = Words(random.Random(seed))
    texts = []
    for _ in range(30_000):
        sample = mixed(words)
        texts.append("\n".join(message["content"] for message in sample.messages) + "\n".join(sample.tools))
    trainer = trainers.BpeTrainer(vocab_size=vocab_size - len(MARKS), special_tokens=SPECIAL, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_tokens(MARKS)
    return tokenizer


def encode(tokenizer: Tokenizer, samples: list[Sample]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Token ids and "said by the assistant" flags of each conversation."""
    parts = [pieces(sample.messages, sample.tools) for sample in samples]
    flat = tokenizer.encode_batch_fast([text for part in parts for text, _ in part], add_special_tokens=False)
    encoded, position = [], 0
    for part in parts:
        ids = [np.array(flat[position + i].ids, np.int32) for i in range(len(part))]
        flags = [np.full(len(ids[i]), said) for i, (_, said) in enumerate(part)]
        position += len(part)
        encoded.append((np.concatenate(ids), np.concatenate(flags)))
    return encoded


def pack(encoded, rows: int, length: int, rng: random.Random):
    """Fills `rows` rows of `length`; returns tokens, positions, segments and flags of what was said."""
    tokens, positions = np.zeros((rows, length), np.int32), np.zeros((rows, length), np.int32)
    segments, said = np.full((rows, length), -1, np.int32), np.zeros((rows, length), bool)
    used = [0] * rows
    for index, (ids, flags) in enumerate(encoded):
        row = max((r for r in range(rows) if used[r] + len(ids) <= length), key=lambda r: used[r], default=None)
        if row is None:
            continue
        span = slice(used[row], used[row] + len(ids))
        place = np.arange(len(ids))
        if rng.random() < 0.25:  # Skipped positions teach distances that no row is long enough to hold.
            place[rng.randrange(1, len(ids)):] += int(2 ** rng.uniform(3, 13))
        tokens[row, span], positions[row, span], segments[row, span], said[row, span] = ids, place, index, flags
        used[row] += len(ids)
    return tokens, positions, segments, said


def batch(tokenizer: Tokenizer, seed: int, index: int, shape: tuple[int, int, int], long: bool):
    """Batch number `index`: arrays shaped [microbatches, rows, length] and targets [microbatches, rows * length / 2]."""
    count, rows, length = shape
    rng = random.Random(seed * 1_000_003 + index)
    words = Words(rng)
    samples = [mixed(words, long) for _ in range(count * rows * length // (250 if long else 105))]
    encoded = [pair for pair in encode(tokenizer, samples) if len(pair[0]) <= length]
    arrays = [a.reshape(count, rows * length) for a in pack(encoded, count * rows, length, rng)]
    tokens, positions, segments, said = arrays
    following = np.roll(tokens, -1, axis=1)
    same = (np.roll(segments, -1, axis=1) == segments) & (segments >= 0)
    same.reshape(count, rows, length)[:, :, -1] = False
    weight = np.where(np.roll(said, -1, axis=1), 1.0, OTHER_WEIGHT) * same
    order = np.argsort(-(weight + 0.01 * np.random.default_rng(rng.getrandbits(32)).random(weight.shape)), axis=1)[:, : rows * length // 2]
    take = lambda a: np.take_along_axis(a, order, axis=1)
    shaped = [a.reshape(count, rows, length) for a in (tokens, positions, segments)]
    return (*shaped, order.astype(np.int32), take(following), take(weight).astype(np.float32))
