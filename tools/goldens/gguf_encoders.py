"""Compares encoders as this house reads them with the same ones in transformers: as folders, and as GGUF files imported again.

Usage: python tools/goldens/gguf_encoders.py LLAMA_CPP [NAME ...]
       (needs: pip install torch "transformers==5.24.0" safetensors sentencepiece protobuf "gguf==0.19.0", and
       cargo build --release -p worker -p engine --bins --examples)

LLAMA_CPP is a checkout of llama.cpp, whose convert_hf_to_gguf.py writes the files. Models are tiny and random, and so are their
vocabularies, which are of the very kinds, normalizers and decoders that published folders have: from the text to the vector
nothing is left out. Runs by hand, as it needs torch. Prints, for each model, how far the vectors of its texts are apart in the
folder and in what was imported, as a share of their size, or what refused it.
"""

import functools
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy
import sentencepiece
import torch
from safetensors.torch import save_file
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from tokenizers.implementations import BertWordPieceTokenizer
from transformers import (AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer,
                          BertTokenizerFast, PreTrainedTokenizerFast, XLMRobertaTokenizerFast)

from gguf_models import CONVERT, SPLITS, sentences, told, weights
from gguf_vocabularies import RELEASE, imported

COUNT = 480
TEXTS = ["the house on the hill", "It's 1234, isn't it?\n\n  and é  ", "Ünïcödé ÀÉ", "中文 and\ttabs", "a [MASK] b <mask> c", "x" * 120]
PAIRS = [["is it on the hill?", "The house is on the hill."], ["x", "é y z"]]
SHAPE = {
    "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3, "num_attention_heads": 4, "max_position_embeddings": 160,
    "type_vocab_size": 2,
}
ROBERTA = {"type_vocab_size": 1, "pad_token_id": 1, "layer_norm_eps": 1e-5}
MODERN = {"local_attention": 16, "global_attn_every_n_layers": 3, "num_hidden_layers": 4, "pad_token_id": 0, "cls_token_id": 2, "sep_token_id": 3,
          "bos_token_id": 2, "eos_token_id": 3}
# What the converter asks of nomic-embed-text's configuration, in the words of its hub.
NOMIC = {
    "architectures": ["NomicBertModel"], "n_positions": 8192, "max_trained_positions": 2048, "n_embd": 64, "n_inner": 128, "n_head": 4, "n_layer": 3,
    "activation_function": "swiglu", "causal": False, "qkv_proj_bias": False, "mlp_fc1_bias": False, "mlp_fc2_bias": False, "prenorm": False,
    "rotary_emb_fraction": 1.0, "rotary_emb_interleaved": False, "rotary_emb_scale_base": None, "rotary_emb_base": 1000.0, "layer_norm_epsilon": 1e-12,
}
QWEN = {"num_key_value_heads": 2, "head_dim": 32, "type_vocab_size": None, "rope_parameters": {"rope_theta": 10000.0}}
GEMMA = {"num_hidden_layers": 7, "hidden_size": 96, "num_key_value_heads": 2, "head_dim": 32, "query_pre_attn_scalar": 32, "sliding_window": 16,
         "type_vocab_size": None, "use_bidirectional_attention": True, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
SCORES = {"num_labels": 1, "id2label": {0: "score"}, "label2id": {"score": 0}}
# Models by name: model_type, what is said beside SHAPE, letters, how tokens are pooled (None for a cross-encoder).
MODELS = {
    "bert": ("bert", {}, "words", "mean"),
    "bert of the first token": ("bert", {}, "words", "cls"),
    "bert with case": ("bert", {}, "cased words", "mean"),
    "bert that scores": ("bert", SCORES, "words", None),
    "xlm-roberta": ("xlm-roberta", ROBERTA, "unigrams", "mean"),
    "xlm-roberta that scores": ("xlm-roberta", {**ROBERTA, **SCORES}, "unigrams", None),
    "roberta": ("roberta", ROBERTA, "bytes of roberta", "mean"),
    "nomic_bert": ("nomic_bert", {}, "words", "mean"),
    "modernbert": ("modernbert", MODERN, "bytes", "cls"),
    # As published: the names of the decoder alone, and those of one with a head.
    "qwen3": ("qwen3", {**QWEN, "tie_word_embeddings": True}, "bytes of qwen", "lasttoken"),
    "qwen3 with a head": ("qwen3", {**QWEN, "tie_word_embeddings": False}, "bytes of qwen", "lasttoken"),
    "embeddinggemma": ("gemma3_text", GEMMA, "pieces of gemma", "mean"),
    "modernbert that scores": ("modernbert", {**MODERN, **SCORES, "classifier_pooling": "mean"}, "bytes", None),
}


def words(folder, lowercase):
    trainer = BertWordPieceTokenizer(lowercase=lowercase)
    trainer.train_from_iterator([Path(__file__).read_text()] * 3, vocab_size=COUNT, min_frequency=1)
    vocabulary = trainer.get_vocab()
    tokenizer = BertTokenizerFast(vocab=vocabulary, do_lower_case=lowercase)
    tokenizer.save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(sorted(vocabulary, key=vocabulary.get)) + "\n")


def unigrams(folder):
    text = folder / "text"
    text.write_text(Path(__file__).read_text())
    sentencepiece.SentencePieceTrainer.train(
        input=str(text), model_prefix=str(folder / "sentencepiece.bpe"), vocab_size=COUNT - 2, model_type="unigram", unk_id=0, bos_id=1, eos_id=2,
        pad_id=-1, normalization_rule_name="nmt_nfkc", minloglevel=2, num_threads=1)
    text.unlink()
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / "sentencepiece.bpe.model"))
    own = [(pieces.id_to_piece(id), pieces.get_score(id)) for id in range(3, pieces.vocab_size())]
    vocabulary = [(special, 0.0) for special in ["<s>", "<pad>", "</s>", "<unk>"]] + own + [("<mask>", 0.0)]
    XLMRobertaTokenizerFast(vocab=vocabulary).save_pretrained(folder)


def byte_level(folder, first, last):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    specials = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"] if first == "<s>" else ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.BpeTrainer(vocab_size=COUNT, special_tokens=specials, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator([Path(__file__).read_text()], trainer)
    between = f"{last} {last}" if first == "<s>" else last
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}", pair=f"{first} $A {between} $B {last}",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in (first, last)])
    named = dict(zip(["bos_token", "eos_token"], [first, last])) | {"cls_token": first, "sep_token": last}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **named).save_pretrained(folder)


def bytes_of_qwen(folder):
    """Texts end with another token than answers do."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer, tokenizer.decoder = normalizers.NFC(), decoders.ByteLevel()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(SPLITS["qwen2"][0]), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    ends = ["<|endoftext|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(vocab_size=COUNT, special_tokens=[*ends, "<|im_start|>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator([Path(__file__).read_text()], trainer)
    tokenizer.post_processor = processors.Sequence([
        processors.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False),
        processors.TemplateProcessing(single="$A <|endoftext|>", pair="$A $B:1 <|endoftext|>", special_tokens=[("<|endoftext|>", 0)])])
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=ends[0], eos_token=ends[1]).save_pretrained(folder)


def pieces_of_gemma(folder):
    """Texts stand between two tokens."""
    sentences(folder, False)
    told = {"tokenizer_class": "GemmaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>", "mask_token": "<unk>",
            "add_bos_token": True, "add_eos_token": True}
    (folder / "tokenizer_config.json").write_text(json.dumps(told))
    AutoTokenizer.from_pretrained(folder).save_pretrained(folder)
    (folder / "tokenizer_config.json").write_text(json.dumps(told))


LETTERS = {
    "pieces of gemma": pieces_of_gemma,
    "bytes of qwen": bytes_of_qwen,
    "words": lambda folder: words(folder, True), "cased words": lambda folder: words(folder, False), "unigrams": unigrams,
    "bytes": lambda folder: byte_level(folder, "[CLS]", "[SEP]"), "bytes of roberta": lambda folder: byte_level(folder, "<s>", "</s>"),
}


def matrices(width):
    """What EmbeddingGemma's mean goes through."""
    torch.manual_seed(8)
    return [torch.randn(outputs, inputs) / inputs**0.5 for inputs, outputs in [(width, 4 * width), (4 * width, width)]]


def modules(folder, pooling, dense):
    paths = [f"{at}_Dense" for at in range(2, len(dense) + 2)]
    kinds = [("", "Transformer"), ("1_Pooling", "Pooling"), *((path, "Dense") for path in paths), (f"{len(dense) + 2}_Normalize", "Normalize")]
    for path, matrix in zip(paths, dense):
        (folder / path).mkdir()
        save_file({"linear.weight": matrix}, folder / path / "model.safetensors")
        (folder / path / "config.json").write_text(json.dumps({
            "in_features": matrix.shape[1], "out_features": matrix.shape[0], "bias": False, "activation_function": "torch.nn.modules.linear.Identity"}))
    (folder / "modules.json").write_text(json.dumps([
        {"idx": at, "name": str(at), "path": path, "type": f"sentence_transformers.models.{kind}"} for at, (path, kind) in enumerate(kinds)]))
    (folder / "1_Pooling").mkdir()
    modes = {f"pooling_mode_{name}": name.startswith(pooling) for name in ["cls_token", "mean_tokens", "lasttoken"]}
    (folder / "1_Pooling/config.json").write_text(json.dumps({"word_embedding_dimension": SHAPE["hidden_size"], **modes}))


def theirs(model, folder, pooling, dense, asked):
    tokenizer, rows = AutoTokenizer.from_pretrained(folder), []
    for text in asked:
        read = tokenizer(*([text] if isinstance(text, str) else text), return_tensors="pt")
        with torch.no_grad():
            out = model(**{key: value for key, value in read.items() if key != "token_type_ids" or (getattr(model.config, "type_vocab_size", None) or 1) > 1})
        if pooling is None:
            rows.append(out.logits[0])
        else:
            row = out.last_hidden_state[0]
            pooled = {"mean": row.mean(0), "cls": row[0], "lasttoken": row[-1]}[pooling]
            rows.append(functools.reduce(lambda vector, matrix: matrix @ vector, dense, pooled))
    return torch.cat(rows).numpy()


def ours(folder, asked):
    run = subprocess.run([RELEASE / "examples/vectors", folder], input=json.dumps(asked).encode(), capture_output=True)
    return numpy.frombuffer(run.stdout, numpy.float32) if run.returncode == 0 else run.stderr.decode().strip()


def apart(right, found):
    if isinstance(found, str):
        return found
    # Vectors count by where they point.
    return f"{numpy.linalg.norm(found - right) / numpy.linalg.norm(right):.1e} apart"


def compare(name, source):
    kind, more, letters, pooling = MODELS[name]
    asked = PAIRS if pooling is None else TEXTS
    with tempfile.TemporaryDirectory() as folder:
        original, file, made = Path(folder) / "original", Path(folder) / "model.gguf", Path(folder) / "made"
        original.mkdir(), made.mkdir()
        LETTERS[letters](original)
        count = len(AutoTokenizer.from_pretrained(original))
        config = AutoConfig.for_model(kind, **{**SHAPE, **more, "vocab_size": count})
        headed = name.endswith("with a head")
        auto = AutoModelForSequenceClassification if pooling is None else AutoModelForCausalLM if headed else AutoModel
        model = auto.from_config(config, dtype=torch.float32).eval()
        weights(model)
        model.save_pretrained(original)
        if kind == "qwen3":
            told(original, architectures=["Qwen3ForCausalLM"])
            model = model.model if headed else model
        dense = matrices(config.hidden_size) if kind == "gemma3_text" else []
        if pooling:
            modules(original, pooling, dense)
        right = theirs(model, original, pooling, dense, asked)
        report = f"folder {apart(right, ours(original, asked))}"
        if kind == "nomic_bert":
            said = json.loads((original / "config.json").read_text())
            (original / "config.json").write_text(json.dumps({**said, **NOMIC}))
        convert = [sys.executable, "-c", CONVERT, source, original, "--outfile", file, "--outtype", "f32",
                   *(["--sentence-transformers-dense-modules"] if dense else [])]
        run = subprocess.run([str(part) for part in convert], capture_output=True, env={**os.environ, "SPLIT": "qwen2" if kind == "qwen3" else "gpt-2"})
        if run.returncode:
            return f"{report}; not converted: {run.stderr.decode().strip().splitlines()[-1]}"
        if refusal := imported(file, made):
            return f"{report}; GGUF refused: {refusal}"
        return f"{report}; GGUF {apart(right, ours(made, asked))}"


def main():
    source, names = Path(sys.argv[1]), sys.argv[2:] or MODELS
    for name in names:
        print(f"{name}: {compare(name, source)}", flush=True)


if __name__ == "__main__":
    main()
