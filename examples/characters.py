"""Learn to write text, character by character: an RNN, an LSTM and a small transformer.

Without a file, the models read the sources of Python's standard library. The script prints the bits
per character of test text for each model, and text that the model generates. The RNN and the LSTM
exist in both styles, the transformer only in the functional style.

    python examples/characters.py
    python examples/characters.py --style compat
    python examples/characters.py --model lstm --text shakespeare.txt --steps 2000
"""

import argparse
import time

import numpy as np
from example_data import contents, sources
from options import STYLE, file, integer, number, refuse, seed

import npdl
import npdl.functional as F
from npdl import random
from npdl.callbacks import Callback
from npdl.training import fit, predict

LENGTH = 64  # characters per training sequence
BATCH = 32

# Default number of steps, for about equal training times, and largest learning rates.
STEPS = {"rnn": 2000, "lstm": 600, "transformer": 800}
RATES = {"rnn": 2e-3, "lstm": 8e-3, "transformer": 4e-3}


def rnn(characters):
    """Return a simple recurrent network: one layer that reads its own output."""
    return F.serial(
        F.embedding(characters, 32), F.rnn(256, return_sequence=True), F.dense(characters)
    )


def lstm(characters):
    """Return an LSTM, a recurrent network with gates."""
    return F.serial(
        F.embedding(characters, 32), F.lstm(256, return_sequence=True), F.dense(characters)
    )


def transformer(characters):
    """Return a causal transformer; each block attends to the last `LENGTH` characters."""
    block = F.transformer_encoder_block(
        4, 256, activation=F.gelu(), causal=True, rotary=1000.0, window=LENGTH
    )
    return F.serial(
        F.embedding(characters, 96, table_init=F.normal(0.1)),
        *(block, block, F.layer_norm(), F.dense(characters)),
    )


@F.layer
def logarithm():
    """Return the logarithms of probabilities, which are scores of the next character."""

    def apply(params, p):
        return np.log(np.maximum(p, 1e-30)), None

    def backward(params, cache, g):
        raise NotImplementedError("these scores are not trained")

    return F.Layer(lambda rng, shape: (), apply, backward, lambda shape: shape, step=True)


def functional(name, characters, data, key):
    """Train with pure functions; return a model of the next characters and its parameters."""
    model = {"rnn": rnn, "lstm": lstm, "transformer": transformer}[name](characters)
    rate = F.one_cycle(RATES[name], len(data[0]) // BATCH)
    state, _ = fit(
        model,
        F.softmax_cross_entropy,
        F.chain(F.clip_by_global_norm(1.0), F.adam(rate)),
        data,
        batch_size=BATCH,
        shuffle=False,
        rng=key,
        callbacks=[Lines()],
        progress=False,
    )
    return model, state.params


def compat(name, characters, data, key):
    """Train with objects that hold their parameters, in the style of Keras.

    The network ends in a softmax, so the scores are the logarithms of its probabilities. It is
    returned as a functional model and its parameters.
    """
    npdl.utils.set_seed(key[0])
    layers = npdl.layers
    recurrent = {"rnn": layers.SimpleRNN, "lstm": layers.LSTM}[name]
    model = npdl.Model()
    table = npdl.initializations.Normal(1.0)
    model.add(layers.Embedding(input_size=characters, n_out=32, init=table, static=False))
    model.add(recurrent(n_out=256, return_sequence=True))
    model.add(layers.Softmax(characters))
    model.compile(loss="scce", optimizer=npdl.optimizers.Adam(lr=RATES[name], decay=1e-3))
    model.fit(*data, epochs=1, batch_size=BATCH, shuffle=False, callbacks=[Lines()], verbose=0)
    layer, params = model.to_functional()
    return F.serial(layer, logarithm()), (params, ())


class Lines(Callback):
    """Print a line after each tenth of the steps, in both styles."""

    def on_train_begin(self, logs=None):
        """Store the start time."""
        self.start, self.before = time.perf_counter(), (0, 0.0)

    def on_train_batch_end(self, batch, logs=None):
        """Print the bits per character since the last line."""
        step, steps = batch + 1, self.params["steps"]
        if step * 10 // steps == batch * 10 // steps:
            return
        # The loss is the mean since the first step, in nats.
        total = step * logs["loss"] / np.log(2)
        mean = (total - self.before[1]) / (step - self.before[0])
        self.before = step, total
        seconds = time.perf_counter() - self.start
        line = f"step {step:>4}/{steps}: {mean:.2f} bits per character, {seconds:.0f} s"
        print(line, flush=True)


def windows(ids, starts):
    """Return sequences of the text, and the same sequences shifted by one character."""
    positions = starts[:, None] + np.arange(LENGTH)
    return ids[positions], ids[positions + 1]


def bits(model, params, ids):
    """Return the mean of -log₂ p over characters, where p is the predicted probability.

    The sequences overlap by half. The first half of each sequence is context and does not count.
    """
    half = LENGTH // 2
    x, y = windows(ids, np.arange(0, len(ids) - LENGTH, half))
    loss, _ = F.softmax_cross_entropy(predict(model, params, x)[:, half:], y[:, half:])
    return float(loss) / np.log(2)


def main():
    """Train each model, measure it and generate text."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--style", **STYLE)
    parser.add_argument(
        "--model",
        choices=(*STEPS, "all"),
        default="all",
        help="in compat, all means the RNN and the LSTM",
    )
    parser.add_argument("--text", type=file, metavar="FILE", help="a training text in UTF-8")
    parser.add_argument(
        "--steps",
        type=integer(2, 100_000),
        help="default " + ", ".join(f"{count} of {name}" for name, count in STEPS.items()),
    )
    parser.add_argument(
        "--length", type=integer(), help="number of characters to generate; default 500"
    )
    parser.add_argument(
        "--temperature",
        type=number(0.01, 100),
        default=0.7,
        help="of the sampling; default 0.7",
    )
    parser.add_argument(
        "--seed", type=seed, default=0, help="seed of the training and the sampling"
    )
    parser.add_argument("--quick", action="store_true", help="60 steps, as a trial")
    arguments = parser.parse_args()

    style = {"functional": functional, "compat": compat}[arguments.style]
    if arguments.model == "all":
        names = [name for name in STEPS if style is functional or name != "transformer"]
    elif style is compat and arguments.model == "transformer":
        parser.error("no transformer in --style compat; leave out one of the two")
    else:
        names = [arguments.model]
    key = random.key(arguments.seed)
    text = contents(arguments.text) if arguments.text else sources(2_000_000)
    characters, ids = np.unique(np.array(list(text)), return_inverse=True)
    if len(text) < 40 * LENGTH or len(characters) < 2:
        refuse(
            f"{arguments.text} has {len(text)} characters, {len(characters)} different ones; "
            f"expected at least {40 * LENGTH} and 2"
        )
    ids = ids.astype(np.min_scalar_type(len(characters)))  # a small type, for many sequences
    split = len(ids) * 19 // 20
    held_out = ids[split:][:50_000]
    frequencies = np.bincount(ids[:split], minlength=len(characters)) / split
    baseline = -np.mean(np.log2(np.maximum(frequencies, 1e-9))[held_out])
    print(f"{len(ids)} characters, {len(characters)} different ones")
    print(f"character frequencies alone: {baseline:.2f} bits per character")

    for name in names:
        steps = arguments.steps or (60 if arguments.quick else STEPS[name])
        generator = random.generator(random.fold(key, "starts"))
        starts = generator.integers(split - LENGTH, size=steps * BATCH)
        print(f"\n{name}, {steps} steps:")
        model, params = style(name, len(characters), windows(ids[:split], starts), key)
        found = bits(model, params, held_out)
        length = arguments.length or (80 if arguments.quick else 500)
        prompt = held_out[:LENGTH]
        print(f"{name}: {found:.2f} bits per character of test text")
        print(f"after {''.join(characters[prompt][-20:])!r}, it writes:\n", flush=True)
        written = F.generate(
            model,
            params,
            prompt,
            random.fold(key, "write"),
            length=length,
            temperature=arguments.temperature,
        )
        print("".join(characters[written]))


if __name__ == "__main__":
    main()
