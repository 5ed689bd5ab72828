"""Train the chatbot on a file of dialogues, and write it to a file.

Each line of the file has a question, a tab and an answer. <unk> in a question matches any unknown
word. A question may have several answers, on several lines.

    python examples/chatbot/train.py --corpus my-dialogues.tsv --output my-bot.npz
"""

import argparse
import time
from pathlib import Path

from arguments import file, folder, integer, refuse, seed
from bot import MODEL, Bot, load, save
from data import CORPUS, as_arrays, read_dialogues, vocabularies, words_of_question
from model import loss, make_parts

import npdl.functional as F
from npdl.training import fit


def train(dialogues, epochs=46, batch_size=32, key=0, progress=True):
    """Train a bot on pairs (question, answer) and return it."""
    asked, said = vocabularies(dialogues)
    steps = epochs * -(-len(dialogues) // batch_size)
    state, _ = fit(
        make_parts(len(asked.words), len(said.words)).whole,
        loss,
        F.chain(
            F.clip_by_global_norm(1.0), F.adamw(F.cosine_decay(1e-2, steps), weight_decay=0.05)
        ),
        as_arrays(dialogues, asked, said),
        epochs=epochs,
        batch_size=batch_size,
        rng=key,
        progress=progress,
    )
    return Bot(asked, said, state.params)


def fraction_right(bot, dialogues):
    """Return the fraction of questions that the bot answers exactly as in the dialogues."""
    answers = {}
    for question, answer in dialogues:
        answers.setdefault(tuple(words_of_question(question)), set()).add(answer)
    right = [bot.reply(" ".join(words)).answer in known for words, known in answers.items()]
    return sum(right) / len(right)


def parameter_file(text):
    """Return the path of a file to write. Refuse other suffixes before the training."""
    if Path(text).suffix not in (".npz", ".safetensors") or Path(text).is_dir():
        raise argparse.ArgumentTypeError(
            f"{text!r} is not the name of a file that ends in .npz or .safetensors"
        )
    folder(Path(text).parent)
    return Path(text)


def main():
    """Train, write the file, and print the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--corpus", type=file, default=CORPUS, metavar="FILE")
    parser.add_argument("--output", type=parameter_file, default=MODEL, metavar="FILE")
    parser.add_argument("--epochs", type=integer(most=10_000), default=46)
    parser.add_argument("--seed", type=seed, default=0, help="seed of all random numbers")
    arguments = parser.parse_args()
    try:
        dialogues = read_dialogues(arguments.corpus)
    except (OSError, ValueError) as error:
        refuse(error)
    start = time.perf_counter()
    bot = train(dialogues, arguments.epochs, key=arguments.seed)
    print(f"{len(dialogues)} exchanges, {time.perf_counter() - start:.0f} s of training")
    save(arguments.output, bot)
    size = arguments.output.stat().st_size
    fraction = fraction_right(load(arguments.output), dialogues)
    print(f"{arguments.output}: {size / 1e6:.2f} MB, answers {fraction:.1%} of its questions")


if __name__ == "__main__":
    main()
