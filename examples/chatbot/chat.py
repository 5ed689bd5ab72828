"""Talk to the chatbot in a terminal; or answer each line of the standard input.

python examples/chatbot/chat.py
python examples/chatbot/chat.py --temperature 0.7
python examples/chatbot/chat.py < examples/chatbot/reworded.txt
"""

import argparse
import sys

from arguments import add_model, loaded, number, seed, whole

from npdl import random


def main():
    """Read questions, and write answers, until there are no more."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_model(parser)
    parser.add_argument(
        "--beam", type=whole(1, 50), default=5, help="how many beginnings the search keeps"
    )
    parser.add_argument(
        "--temperature",
        type=number(0.1, 2),
        metavar="T",
        help="draw the words: 0.5 is careful, 1.5 bold; without it, the likeliest answer",
    )
    parser.add_argument("--seed", type=seed, default=0, help="decides what is drawn")
    arguments = parser.parse_args()

    bot = loaded(arguments.model)
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
