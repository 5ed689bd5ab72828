"""A web page for the chatbot, at http://127.0.0.1:5000.

    python examples/chatbot/server.py --port 8000

It needs Flask: pip install 'npdl-functional[chatbot]'. The page loads nothing from other machines.
Without --host, only this machine can reach the page.
"""

import argparse
import threading

from arguments import add_model, integer, loaded
from flask import Flask, abort, jsonify, render_template, request
from werkzeug.exceptions import HTTPException

from npdl import random

LOOPBACK = ("127.0.0.1", "localhost")
HEADERS = {
    # Allow scripts, styles and data only from this server. So a typed message cannot run as a
    # script, even if it reached the page as HTML.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def create_app(bot, trusted_hosts=LOOPBACK):
    """Return the Flask application for a bot.

    `trusted_hosts` are the accepted host names; `None` accepts all. They protect against DNS
    rebinding: another site could point its own name to this machine and read the answers.
    """
    app = Flask(__name__)
    app.config.update(MAX_CONTENT_LENGTH=16 * 1024, TRUSTED_HOSTS=trusted_hosts)
    # Flask runs one thread per request. A bot is a value, so the threads can share it. But the
    # OpenBLAS of NumPy below 2.5 may return wrong numbers when several threads multiply matrices
    # at once (numpy issue 29391). An answer takes a few milliseconds.
    one_at_a_time = threading.Lock()

    @app.get("/")
    def page():
        return render_template("index.html")

    @app.post("/reply")
    def reply():
        question, temperature, turn = message()
        with one_at_a_time:
            reply = bot.reply(question, temperature=temperature, key=random.fold(0, turn))
        return jsonify(reply._asdict() | {"weights": reply.weights.round(4).tolist()})

    @app.errorhandler(HTTPException)
    def as_json(error):
        return jsonify(error=error.description), error.code

    @app.after_request
    def add_headers(response):
        response.headers.update(HEADERS)
        return response

    return app


def message():
    """Return the question, the temperature and the turn of the request. Refuse other requests."""
    try:
        fields = request.get_json()
    except RecursionError:
        abort(400, "The JSON is nested too deeply.")
    if not isinstance(fields, dict) or not isinstance(fields.get("question"), str):
        abort(400, 'Expected JSON such as {"question": "How are you?"}.')
    temperature, turn = fields.get("temperature", 0), fields.get("turn", 0)
    if type(temperature) not in (int, float) or not (temperature == 0 or 0.1 <= temperature <= 2):
        abort(400, "The temperature is 0, for the most likely answer, or from 0.1 to 2.")
    if type(turn) is not int or not 0 <= turn < 2**32:
        abort(400, "The turn, the seed of the sampling, is an int from 0 to 4294967295.")
    return fields["question"], temperature, turn


def main():
    """Run the server until Ctrl-C."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_model(parser)
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 accepts other machines")
    parser.add_argument("--port", type=integer(1, 65535), default=5000)
    arguments = parser.parse_args()
    trusted_hosts = LOOPBACK if arguments.host in LOOPBACK else None
    app = create_app(loaded(arguments.model), trusted_hosts)
    app.run(arguments.host, arguments.port, threaded=True)


if __name__ == "__main__":
    main()
