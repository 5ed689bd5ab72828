"""Talk to the chatbot in a terminal, or answer each line of the standard input.

python examples/chatbot/chat.py
python examples/chatbot/chat.py --temperature 0.7
python examples/chatbot/chat.py < examples/chatbot/reworded.txt
"""

import argparse
import sys

from arguments import add_model, integer, loaded, number, seed

from npdl import random


def main():
    """Read questions and print answers until the input ends."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_model(parser)
    parser.add_argument(
        "--beam", type=integer(1, 50), default=5, help="number of partial answers in the search"
    )
    parser.add_argument(
        "--temperature",
        type=number(0.1, 2),
        metavar="T",
        help="sample the words, more freely for a larger T; default: the most likely answer",
    )
    parser.add_argument("--seed", type=seed, default=0, help="seed of the sampling")
    arguments = parser.parse_args()

    bot = loaded(arguments.model)
    sys.stdin.reconfigure(errors="replace")  # invalid bytes get an answer too
    interactive = sys.stdin.isatty()
    if interactive:
        print("Ask me something. An empty line ends the conversation.")
    for turn in range(sys.maxsize):
        try:
            question = input("> " if interactive else "")
        except (EOFError, KeyboardInterrupt):
            break
        if interactive and not question.strip():
            break
        reply = bot.reply(
            question,
            width=arguments.beam,
            temperature=arguments.temperature,
            key=random.fold(arguments.seed, turn),
        )
        print(reply.answer if interactive else f"{question}\t{reply.answer}")


if __name__ == "__main__":
    main()
