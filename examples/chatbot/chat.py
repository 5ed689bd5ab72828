"""Talk to the chatbot in a terminal; or answer each line of the standard input.

python examples/chatbot/chat.py
python examples/chatbot/chat.py --temperature 0.7
python examples/chatbot/chat.py < examples/chatbot/reworded.txt
"""

import argparse
import sys
from pathlib import Path

from bot import MODEL, load

from npdl import random


def add_model_argument(parser):
    """Let the user choose the file of the model."""
    parser.add_argument(
        "--model", type=Path, default=MODEL, metavar="FILE", help="a file that train.py wrote"
    )


def main():
    """Read questions, and write answers, until there are no more."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_model_argument(parser)
    parser.add_argument("--beam", type=int, default=5, help="how many beginnings the search keeps")
    parser.add_argument(
        "--temperature", type=float, default=0.0, help="draw the words: 0.5 is careful, 1.5 bold"
    )
    parser.add_argument("--seed", type=int, default=0, help="decides what is drawn")
    arguments = parser.parse_args()
    if arguments.beam < 1 or not 0 <= arguments.temperature < 100:
        parser.error("--beam must be at least 1, and --temperature from 0 to below 100")

    bot = load(arguments.model)
    sys.stdin.reconfigure(errors="replace")  # whatever comes gets an answer
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
