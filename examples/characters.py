"""Learn to write, one character after another: an RNN, an LSTM and a small transformer.

Without a file, they read the sources of Python's standard library. Prints the bits that each needs
for a character of text that it has not seen, and what it then writes.

    python examples/characters.py
    python examples/characters.py --model lstm --text shakespeare.txt --steps 2000
"""

import argparse
import time
from pathlib import Path

import numpy as np
from datasets import contents, sources

import npdl.functional as F
from npdl import random
from npdl.training import fit, predict

LENGTH = 64  # characters that a model sees at once in training


def rnn(characters):
    """Return the simplest memory: one layer that reads its own output."""
    return F.serial(
        F.embedding(characters, 32), F.rnn(256, return_sequence=True), F.dense(characters)
    )


def lstm(characters):
    """Return a memory that decides what to keep."""
    return F.serial(
        F.embedding(characters, 32), F.lstm(256, return_sequence=True), F.dense(characters)
    )


def transformer(characters):
    """Return a model without memory, which looks at all characters before."""
    block = F.transformer_encoder_block(4, 256, activation=F.gelu(), causal=True)
    return F.serial(
        *(F.embedding(characters, 96, table_init=F.normal(0.1)), F.learned_positions(LENGTH)),
        *(block, block, F.layer_norm(), F.dense(characters)),
    )


# With the steps that it makes in a time, and the highest learning rate.
MODELS = {
    "rnn": (rnn, 2000, 2e-3),
    "lstm": (lstm, 600, 8e-3),
    "transformer": (transformer, 800, 4e-3),
}


def windows(ids, starts):
    """Return pieces of the text, and the same a character further on."""
    places = starts[:, None] + np.arange(LENGTH)
    return ids[places], ids[places + 1]


def train(model, ids, steps, rate, key):
    """Train on random pieces of the text, 32 a step."""
    starts = random.generator(random.fold(key, "starts")).integers(
        len(ids) - LENGTH, size=steps * 32
    )
    optimizer = F.chain(F.clip_by_global_norm(1.0), F.adam(F.one_cycle(rate, steps)))
    data = windows(ids, starts)
    state, _ = fit(
        model, F.softmax_cross_entropy, optimizer, data, shuffle=False, rng=key, progress=False
    )
    return state.params


def bits(model, params, ids):
    """Return the mean of -log₂ of the probability of each character but the first of pieces.

    The pieces follow one another, and the first half of each, of which little is before it, is only
    read.
    """
    half = LENGTH // 2
    x, y = windows(ids, np.arange(0, len(ids) - LENGTH, half))
    outputs = predict(model, params, x)
    loss, _ = F.softmax_cross_entropy(outputs[:, half:].copy(), y[:, half:])
    return float(loss) / np.log(2)


def write(model, params, prompt, count, temperature, key):
    """Return ids drawn one by one from what the model expects after the last ones."""
    generator = random.generator(random.fold(key, "write"))
    ids = list(prompt)
    for _ in range(count):
        scores = model(params, np.array([ids[-LENGTH:]]))[0, -1] / temperature
        probabilities = np.exp((scores - scores.max()).astype(float))
        ids.append(generator.choice(len(scores), p=probabilities / probabilities.sum()))
    return ids


def main():
    """Train each model, measure it and let it write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=[*MODELS, "all"], default="all")
    parser.add_argument("--text", type=Path, metavar="FILE", help="a text in UTF-8 to learn")
    parser.add_argument("--steps", type=int, help="of training; left out, about half a minute")
    parser.add_argument("--length", type=int, default=500, help="how much to write")
    parser.add_argument("--temperature", type=float, default=0.7, help="how daring; 1 is as it is")
    parser.add_argument("--seed", type=int, default=0, help="decides the training and the writing")
    parser.add_argument("--quick", action="store_true", help="a few steps, to see that it runs")
    arguments = parser.parse_args()

    if not arguments.temperature > 0:
        parser.error("--temperature must be above 0")
    key = random.key(arguments.seed)
    text = contents(arguments.text) if arguments.text else sources(2_000_000)
    if len(text) < 40 * LENGTH:
        raise SystemExit(f"a text of {len(text)} characters is too short; give {40 * LENGTH}")
    characters, ids = np.unique(np.array(list(text)), return_inverse=True)
    split = len(ids) * 19 // 20
    held_out = ids[split:][:50_000]
    frequencies = np.bincount(ids[:split], minlength=len(characters)) / split
    alone = -np.mean(np.log2(np.maximum(frequencies, 1e-9))[held_out])
    print(f"{len(ids)} characters, {len(characters)} different ones")
    print(f"by their frequencies alone: {alone:.2f} bits per character")

    for name in MODELS if arguments.model == "all" else [arguments.model]:
        make, steps, rate = MODELS[name]
        steps = arguments.steps or (60 if arguments.quick else steps)
        model = make(len(characters))
        start = time.perf_counter()
        params = train(model, ids[:split], steps, rate, key)
        seconds = time.perf_counter() - start
        found = bits(model, params, held_out)
        print(
            f"\n{name}: {found:.2f} bits per character, {steps} steps in {seconds:.1f} s; writes:\n"
        )
        length = 80 if arguments.quick else arguments.length
        written = write(model, params, held_out[:LENGTH], length, arguments.temperature, key)
        print("".join(characters[written[LENGTH:]]))


if __name__ == "__main__":
    main()
