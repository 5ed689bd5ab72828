"""Train a network on handwritten digits, and export it with a web page on which one draws digits.

The page runs the network in the browser, by onnxruntime-web. npm installs this library into the
folder of the page:

    python examples/digits_page.py
    cd output/digits_page
    npm install
    python -m http.server --bind 127.0.0.1 8000
"""

import argparse
import importlib.util
import shutil
import time
from pathlib import Path

import numpy as np
from example_data import digits
from options import folder, integer, refuse, seed

import npdl.functional as F
from npdl import onnx, random
from npdl.training import fit, predict

PAGE = Path(__file__).with_suffix("")


def network():
    """Return a small convolutional network for images of 8 × 8 pixels."""
    return F.serial(
        *(F.conv2d(24, 3, padding="same", bias=False), F.batch_norm(), F.relu()),
        *(F.conv2d(48, 3, stride=2, padding="same", bias=False), F.batch_norm(), F.relu()),
        *(F.dropout(0.3), F.flatten(), F.dense(64), F.relu(), F.dropout(0.5), F.dense(10)),
    )


def redrawn(x, generator):
    """Return images shifted by a fraction of a pixel, with lighter and heavier strokes.

    A mouse draws less carefully than the writers of the data.
    """
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    down, right = generator.uniform(-1, 1, (2, len(x), 1, 1, 1)).astype(np.float32)
    for axis, shift in ((2, down), (3, right)):
        moved = np.where(shift > 0, np.roll(padded, 1, axis), np.roll(padded, -1, axis))
        padded = padded + abs(shift) * (moved - padded)
    strength = generator.uniform(0.8, 1.3, (len(x), 1, 1, 1)).astype(np.float32)
    return np.minimum(padded[:, :, 1:-1, 1:-1] * strength, 1)


def main():
    """Train, print the accuracy, and write the page and the network."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--epochs", type=integer(), help="default 12")
    parser.add_argument("--seed", type=seed, default=0, help="seed of the split and the training")
    parser.add_argument(
        "--output", type=folder, metavar="DIR", help="the folder; default output/digits_page"
    )
    parser.add_argument("--quick", action="store_true", help="three epochs")
    arguments = parser.parse_args()

    if importlib.util.find_spec("onnx") is None:
        refuse("the page needs onnx: pip install 'npdl-functional[onnx]'")
    output = arguments.output or folder("output/digits_page")
    key = random.key(arguments.seed)
    (x, labels), validation, test = digits(key)
    generator = random.generator(random.fold(key, "redrawn"))
    copies = np.concatenate([x, *(redrawn(x, generator) for _ in range(7))])
    epochs = arguments.epochs or (3 if arguments.quick else 12)
    model = network()
    start = time.perf_counter()
    state, _ = fit(
        model,
        F.softmax_cross_entropy,
        F.adam(F.one_cycle(5e-3, epochs * -(-len(copies) // 64))),
        (copies, np.tile(labels, 8)),
        epochs=epochs,
        batch_size=64,
        validation=validation,
        metrics={"accuracy": F.accuracy},
        rng=key,
    )
    accuracy = F.accuracy(predict(model, state.params, test[0]), test[1])
    seconds = time.perf_counter() - start
    print(f"test accuracy {accuracy:.4f}, after {seconds:.1f} s of training")

    # The exported network returns probabilities.
    whole = F.serial(model, F.softmax())
    onnx.save(output / "digits.onnx", whole, (state.params, ()), (1, 8, 8))
    for file in PAGE.iterdir():
        shutil.copy(file, output)
    print(f"the page: {output}; next: npm install, and a web server")


if __name__ == "__main__":
    main()
