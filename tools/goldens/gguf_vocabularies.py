"""Compares the tokens that imported vocabularies make with those of the tokenizers that the vocabularies come from.

Usage: python tools/goldens/gguf_vocabularies.py FOLDER [NAME ...]     (needs: pip install "gguf==0.19.0", and
       cargo build --release -p worker -p engine --bins --examples)

FOLDER holds vocabularies of GGUF, `ggml-vocab-NAME.gguf`, and beside each one texts (`.inp`) and the tokens that
transformers has for them (`.out`); llama.cpp's source has a collection under models. They are their authors' and stay out
of this repository, so this runs by hand and not in `make test`. A tiny Llama of zeros is put into each file, as only
whole models are imported. Prints each difference, what is refused and why, and, last, how many texts agreed.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy
from gguf import GGUFReader, GGUFValueType, GGUFWriter

RELEASE = Path(__file__).resolve().parents[2] / "target/release"
WIDTH = 32


def with_model(source, made):
    """The vocabulary of a file in a file that holds a model too."""
    reader, writer = GGUFReader(source), GGUFWriter(made, "llama")
    for key, field in reader.fields.items():
        if key.startswith("tokenizer."):
            kind = field.types[0]
            writer.add_key_value(key, field.contents(), kind, field.types[-1] if kind == GGUFValueType.ARRAY else None)
    count = len(reader.fields["tokenizer.ggml.tokens"].data)
    for key, value in {"block_count": 1, "context_length": 64, "embedding_length": WIDTH, "feed_forward_length": WIDTH,
                       "attention.head_count": 1}.items():
        writer.add_uint32(f"llama.{key}", value)
    writer.add_float32("llama.attention.layer_norm_rms_epsilon", 1e-5)
    matrices = ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"]
    shapes = {f"blk.0.{name}": (WIDTH, WIDTH) for name in matrices}
    shapes |= {name: (WIDTH,) for name in ["blk.0.attn_norm", "blk.0.ffn_norm", "output_norm"]}
    for name, shape in shapes.items() | {("token_embd", (count, WIDTH))}:
        writer.add_tensor(f"{name}.weight", numpy.zeros(shape, numpy.float16 if len(shape) > 1 else numpy.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def imported(file, folder):
    """What the import refuses a file with, if it does."""
    # Its input stays open, as an import ends with it.
    command = [RELEASE / "impetus-worker", "import", file, folder]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as worker:
        last = worker.stdout.read().strip().splitlines()[-1]
        return None if worker.wait() == 0 else json.loads(last)["Failed"]["message"]


def tokens(folder, texts):
    run = subprocess.run([RELEASE / "examples/tokens", folder], input=json.dumps(texts).encode(), capture_output=True, check=True)
    return json.loads(run.stdout)


def compare(file):
    """How many texts agreed, of how many; nothing if the file is refused."""
    with tempfile.TemporaryDirectory() as folder:
        made, model = Path(folder) / "made.gguf", Path(folder) / "model"
        model.mkdir()
        with_model(file, made)
        refusal = imported(made, model)
        if refusal:
            print(f"{file.name}: refused: {refusal}")
            return 0, 0
        texts = Path(f"{file}.inp").read_bytes().decode().split("\n__ggml_vocab_test__\n")
        expected = [[int(id) for id in line.split()] for line in Path(f"{file}.out").read_text().split("\n")]
        found = tokens(model, texts)
    agreed = [ours == theirs for ours, theirs in zip(found, expected)]
    for text, ours, theirs in zip(texts, found, expected):
        if ours != theirs:
            at = next((at for at, pair in enumerate(zip(ours, theirs)) if pair[0] != pair[1]), min(len(ours), len(theirs)))
            print(f"{file.name}: {text[:60]!r} from token {at}: {ours[at:at + 8]} where {theirs[at:at + 8]} is right")
    print(f"{file.name}: {sum(agreed)} of {len(agreed)}")
    return sum(agreed), len(agreed)


def main():
    folder, names = Path(sys.argv[1]), sys.argv[2:]
    files = sorted(file for file in folder.glob("ggml-vocab-*.gguf") if Path(f"{file}.inp").exists())
    if names:
        files = [file for file in files if file.name.removeprefix("ggml-vocab-").removesuffix(".gguf") in names]
    counts = [compare(file) for file in files]
    print(f"{sum(agreed for agreed, _ in counts)} of {sum(total for _, total in counts)} texts agree")


if __name__ == "__main__":
    main()
