"""Pairs for impetus-nano-embed: a query and the passage that answers it, drawn from the same generators as the chat model's text.

Pairs come in groups that are each other's hard negatives: the same person with another relation, the same relation of
another person. Values, names and codes of the held-out share never appear in training.
"""
import random

import numpy as np
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

import facts
from about import TOPICS, disguise, trained
from words import FILLER, Words

PAD = "<pad>"
SPLIT = r" ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+"
QUERY, PASSAGE = 16, 48


def related(words: Words) -> list[tuple[str, str]]:
    """Two entities times two relations: questions and passages that differ in one thing only."""
    table = words.one(facts.TABLES)
    entities = [facts.entity(words, table) for _ in range(2)]
    relations = words.rng.sample(list(table), k=2)
    if entities[0] == entities[1]:
        return []
    pairs = []
    for e in entities:
        for relation in relations:
            first, second = facts.fact(words, table, e, relation), facts.fact(words, table, e, relation)
            if words.chance(0.2):  # A paraphrase instead of a question.
                pairs.append((first.statement, second.statement.replace(second.value, first.value)))
            elif words.chance(0.2):
                pairs.append((f"{relation} {e}" if words.chance(0.5) else f"{e} {relation}", first.statement))
            else:
                pairs.append((first.question, passage(words, first.statement)))
    return pairs


def passage(words: Words, statement: str) -> str:
    """The statement among others."""
    sentences = [statement]
    for _ in range(words.one([0, 0, 1, 2])):
        other = words.one(FILLER) if words.chance(0.5) else facts.free_fact(words).statement
        sentences.insert(words.rng.randint(0, len(sentences)), other)
    return " ".join(sentences)


def spans(words: Words) -> list[tuple[str, str]]:
    """A passage, and some of its words in any order: any text is to be found by its own words."""
    text = passage(words, facts.free_fact(words).statement)
    if words.chance(0.5):
        text = f"{text} {words.phrase(4, 12)} {' '.join(words.invented() for _ in range(words.rng.randint(0, 3)))}"
    parts = text.split()
    kept = words.rng.sample(parts, k=min(len(parts), words.rng.randint(2, 7)))
    return [(" ".join(kept), text)]


def known(words: Words) -> list[tuple[str, str]]:
    """A question about Impetus with its answer, or with the same question in other words."""
    topic = words.one(TOPICS)
    question = disguise(words, words.one(trained(topic)))
    return [(question, words.one(trained(topic)) if words.chance(0.4) else topic.answer)]


def group(words: Words) -> list[tuple[str, str]]:
    # What is known by heart would not be held out.
    form = words.rng.choices([related, spans, known, free], [50, 20, 0 if words.held_out else 12, 18])[0]
    pairs = form(words)
    # People write queries carelessly.
    return [(query.rstrip("?.") if words.chance(0.2) else query, text) for query, text in pairs]


def free(words: Words) -> list[tuple[str, str]]:
    fact = facts.free_fact(words)
    return [(fact.question, passage(words, fact.statement))]


def pairs(words: Words, count: int) -> list[tuple[str, str]]:
    """So many pairs without a repeated query or passage."""
    found, queries, passages = [], set(), set()
    while len(found) < count:
        for query, text in group(words):
            if len(found) < count and query not in queries and text not in passages:
                queries.add(query)
                passages.add(text)
                found.append((query, text))
    return found


def train_tokenizer(seed: int, vocab_size: int) -> Tokenizer:
    """Byte-level BPE over lower-case words that carry their space, the first word too."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase(), normalizers.Prepend(" ")])
    split = pre_tokenizers.Split(Regex(SPLIT), behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    words = Words(random.Random(seed))
    texts = [text for pair in pairs(words, 40_000) for text in pair]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, special_tokens=[PAD], initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def encode(tokenizer: Tokenizer, texts: list[str], length: int) -> np.ndarray:
    """Token ids [texts, length], padded with 0; only training cuts what is longer."""
    rows = np.zeros((len(texts), length), np.int32)
    for row, encoding in zip(rows, tokenizer.encode_batch_fast(texts, add_special_tokens=False)):
        ids = encoding.ids[:length]
        row[: len(ids)] = ids
    return rows


def batch(tokenizer: Tokenizer, seed: int, index: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Batch number `index`: queries and their passages."""
    drawn = pairs(Words(random.Random(seed * 1_000_003 + index)), size)
    queries, passages = zip(*drawn)
    return encode(tokenizer, list(queries), QUERY), encode(tokenizer, list(passages), PASSAGE)
