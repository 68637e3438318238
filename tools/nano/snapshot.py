"""Exports the checkpoint of a training under way, to look at it or to serve it early.

    python snapshot.py CHECKPOINT FOLDER [SEED]
"""
import sys

import jax

import data
import export
import model
import numpy as np

if __name__ == "__main__":
    checkpoint, folder, seed = sys.argv[1], sys.argv[2], int((sys.argv[3:] or [20])[0])
    config, kept = model.Config(), np.load(checkpoint)
    names = jax.eval_shape(lambda: model.init(config, jax.random.key(0)))
    export.export(folder, {name: kept[name] for name in names}, config, data.train_tokenizer(seed, config.vocab_size), 8)
    print(f"step {int(kept['step'])}")
