"""The chatbot's server: answers, refusals, and concurrent requests."""

import json
import re
import threading
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

pytest.importorskip("flask", reason="needs Flask")

import server
from bot import load
from data import CORPUS
from werkzeug.serving import make_server

FOLDER = Path(CORPUS).parent


@pytest.fixture(scope="module")
def bot():
    return load()


@pytest.fixture(scope="module")
def app(bot):
    return server.create_app(bot)


@pytest.fixture
def client(app):
    return app.test_client()


def test_a_question_is_answered_with_attention_weights(client, bot):
    response = client.post("/reply", json={"question": "What is npdl?"})
    expected = bot.reply("What is npdl?")
    assert response.status_code == 200
    assert response.json["answer"] == expected.answer
    assert response.json["question_words"] == ["what", "is", "npdl"]
    assert response.json["answer_words"] == expected.answer_words
    assert response.json["known"] == [True] * 3
    assert response.json["weights"] == expected.weights.round(4).tolist()
    assert response.json["sure"] is True


def test_the_turn_determines_the_sample(client):
    def draw(turn):
        message = {"question": "Tell me a joke", "temperature": 1, "turn": turn}
        return client.post("/reply", json=message).json["answer"]

    assert [draw(turn) for turn in range(10)] == [draw(turn) for turn in range(10)]
    assert len({draw(turn) for turn in range(10)}) > 1


@pytest.mark.parametrize(
    "question",
    ["", "?", "\0\x1b[2J", "\ud800", "你好", "🙂", "<img src=x onerror=alert(1)>", "a " * 7000],
    ids=range(8),
)
def test_an_odd_question_is_answered(client, question):
    response = client.post(
        "/reply", data=json.dumps({"question": question}), content_type="application/json"
    )
    assert response.status_code == 200
    assert response.json["answer"]
    assert response.is_json


REFUSED = [
    (b"", "application/json", 400),
    (b"hello", "application/json", 400),
    (b"\xff\xfe", "application/json", 400),
    (b'{"question": "hi"', "application/json", 400),
    (b'{"question": ' + b"9" * 10_000 + b"}", "application/json", 400),
    (b"[" * 15_000, "application/json", 400),
    (b'{"question": "hi"}', "text/plain", 415),
    (b"question=hi", "application/x-www-form-urlencoded", 415),
    (b"null", "application/json", 400),
    (b'["question"]', "application/json", 400),
    (b"{}", "application/json", 400),
    (b'{"question": null}', "application/json", 400),
    (b'{"question": ["hi"]}', "application/json", 400),
    (b'{"question": "hi", "temperature": "hot"}', "application/json", 400),
    (b'{"question": "hi", "temperature": true}', "application/json", 400),
    (b'{"question": "hi", "temperature": NaN}', "application/json", 400),
    (b'{"question": "hi", "temperature": -1}', "application/json", 400),
    (b'{"question": "hi", "temperature": 1e-9}', "application/json", 400),
    (b'{"question": "hi", "temperature": 1e400}', "application/json", 400),
    (b'{"question": "hi", "turn": -1}', "application/json", 400),
    (b'{"question": "hi", "turn": 1.5}', "application/json", 400),
    (b'{"question": "hi", "turn": 99999999999999999999}', "application/json", 400),
    (b'{"question": "' + b"a" * 16_384 + b'"}', "application/json", 413),
    (b"x" * 5_000_000, "application/json", 413),
]


@pytest.mark.parametrize(("body", "kind", "status"), REFUSED, ids=range(len(REFUSED)))
def test_an_invalid_message_is_refused_with_a_reason(client, body, kind, status):
    response = client.post("/reply", data=body, content_type=kind)
    assert response.status_code == status
    assert response.is_json
    assert response.json["error"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("get", "/reply", 405), ("post", "/", 405), ("get", "/static/../server.py", 404),
     ("get", "/static/%2e%2e/server.py", 404), ("get", "/no", 404)],
)  # fmt: skip
def test_other_requests_are_refused(client, method, path, status):
    response = getattr(client, method)(path)
    assert response.status_code == status
    assert response.json["error"]


def test_another_host_name_is_refused(bot, client):
    named = {"headers": {"Host": "elsewhere.example"}}
    assert client.get("/", **named).status_code == 400
    assert client.get("/", headers={"Host": "127.0.0.1:5000"}).status_code == 200
    anywhere = server.create_app(bot, trusted_hosts=None).test_client()
    assert anywhere.get("/", **named).status_code == 200


def test_the_page_loads_nothing_from_other_hosts(client):
    page = client.get("/")
    assert page.status_code == 200
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    texts = [
        page.text,
        *(
            (FOLDER / "static" / name).read_text(encoding="utf-8")
            for name in ("chat.js", "chat.css")
        ),
    ]
    for text in texts:
        assert not re.search(r"(?:https?:)?//[a-z]+\.", text)
    assert not re.search(r"innerHTML|insertAdjacentHTML|document\.write|eval\(", texts[1])
    for link in re.findall(r'(?:src|href)="([^"]+)"', page.text):
        with client.get(link) as response:
            assert response.status_code == 200


def test_every_response_has_the_headers(client):
    for response in (
        client.get("/"),
        client.get("/no"),
        client.post("/reply", json={"question": ""}),
    ):
        for name, value in server.HEADERS.items():
            assert response.headers[name] == value


def test_the_default_host_is_this_machine(monkeypatch):
    calls = []
    monkeypatch.setattr("sys.argv", ["server.py"])
    run = lambda app, *args, **options: calls.append((args, options))  # noqa: E731
    monkeypatch.setattr(server.Flask, "run", run)
    server.main()
    assert calls == [(("127.0.0.1", 5000), {"threaded": True})]


@pytest.fixture
def address(app):
    """Return the address of a running server with a thread per request, as in production."""
    running = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=running.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{running.server_port}"
    running.shutdown()
    thread.join()
    running.server_close()


def test_concurrent_requests_get_the_same_answers(address, bot):
    questions = (FOLDER / "reworded.txt").read_text(encoding="utf-8").splitlines()[:12] * 5
    expected = {question: bot.reply(question).answer for question in questions}

    def ask(question):
        body = json.dumps({"question": question}).encode()
        headers = {"Content-Type": "application/json"}
        with urllib.request.urlopen(
            urllib.request.Request(f"{address}/reply", body, headers)
        ) as reply:
            return json.load(reply)["answer"]

    with ThreadPoolExecutor(8) as people:
        answers = list(people.map(ask, questions))
    assert answers == [expected[question] for question in questions]
