"""Each example as a user runs it, in its short mode: its output and its results."""

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import npdl.functional as F
from npdl import random, tree

EXAMPLES = Path(__file__).parents[2] / "examples"
SCRIPTS = sorted({path.stem for path in EXAMPLES.glob("*.py")} - {"example_data", "options"})
STYLES = ("functional", "compat")

pytest.importorskip("matplotlib")
pytest.importorskip("sklearn")


def output_of(script, *arguments):
    command = [sys.executable, "-W", "error", EXAMPLES / f"{script}.py", *map(str, arguments)]
    # The script must import the tested copy of npdl, not an installed one.
    env = os.environ | {"PYTHONPATH": str(EXAMPLES.parent)}
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
        env=env,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def numbers(pattern, text):
    """Return the numbers in the groups of the only line that matches the pattern."""
    (found,) = re.findall(pattern, text, re.MULTILINE)
    return [float(number) for number in (found if isinstance(found, tuple) else (found,))]


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_describes_the_example(script, example, capsys):
    with pytest.raises(SystemExit) as ended:
        example(script, "--help")
    assert not ended.value.code
    text = capsys.readouterr().out
    first = (EXAMPLES / f"{script}.py").read_text(encoding="utf-8").splitlines()[0].strip('"')
    assert " ".join(first.split()) in " ".join(text.split())
    assert "--quick" in text
    assert "--seed" in text


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_readme_describes_every_example(script):
    assert f"`{script}.py`" in (EXAMPLES / "README.md").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("style", STYLES)
def test_the_mlp_classifies_digits_in_both_styles(style, tmp_path):
    text = output_of("digits", "--quick", "--style", style, "--output", tmp_path / "a.png")
    assert numbers(r"test accuracy ([\d.]+)", text)[0] > 0.93
    assert (tmp_path / "a.png").stat().st_size > 10_000


@pytest.mark.slow
@pytest.mark.parametrize("style", STYLES)
def test_the_cnn_classifies_digits_in_both_styles(style, tmp_path):
    text = output_of("digits_cnn", "--quick", "--style", style, "--output", tmp_path)
    assert numbers(r"test accuracy ([\d.]+)", text)[0] > 0.6
    counts = np.array([line.split() for line in re.findall(r"\[([\d ]+)\]", text)], int)
    assert counts.shape == (10, 10)
    accuracy = np.trace(counts) / counts.sum()
    assert abs(accuracy - numbers(r"test accuracy ([\d.]+)", text)[0]) < 1e-4
    pictures = ("confusion", "curves", "filters", "maps", "model")
    assert sorted(path.stem for path in tmp_path.glob("*.png")) == sorted(pictures)


@pytest.mark.slow
@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize(("script", "output"), [("digits", "a.png"), ("digits_cnn", "pictures")])
def test_digits_can_be_read_from_mnist_files(script, output, style, mnist):
    options = ("--quick", "--style", style, "--mnist", mnist, "--output", mnist / output)
    text = output_of(script, *options)
    assert numbers(r"test accuracy ([\d.]+)", text)[0] > 0.5


@pytest.mark.slow
@pytest.mark.parametrize("style", STYLES)
def test_sentences_are_classified(style):
    text = output_of("sentences", "--quick", "--style", style)
    (majority,) = numbers(r"always '\w+': accuracy ([\d.]+)", text)
    for model in ("cnn", "lstm"):
        (accuracy,) = numbers(rf"{model}: test accuracy ([\d.]+)", text)
        assert accuracy > majority + 0.15
    assert text.count("true class by row") == 2


@pytest.mark.slow
@pytest.mark.parametrize("style", STYLES)
def test_questions_are_read_from_a_file(style, tmp_path):
    kinds = {"LOC:city": "where is the town of", "NUM:count": "how many people live in"}
    lines = [f"{kind} {start} place{i % 7} ?" for i in range(60) for kind, start in kinds.items()]
    path = tmp_path / "questions.label"
    path.write_text("\n".join(lines), "latin-1")
    options = ("--trec", path, "--model", "cnn", "--epochs", "4", "--style", style)
    text = output_of("sentences", *options)
    assert "120 sentences of 2 classes" in text
    assert numbers(r"cnn: test accuracy ([\d.]+)", text) == [1.0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("style", "models"),
    [("functional", ("rnn", "lstm", "transformer")), ("compat", ("rnn", "lstm"))],
)
def test_character_models_beat_frequencies_and_generate_text(style, models):
    text = output_of("characters", "--quick", "--style", style)
    (alone,) = numbers(r"character frequencies alone: ([\d.]+)", text)
    for model in models:
        (bits,) = numbers(rf"{model}: ([\d.]+) bits", text)
        assert bits < alone - 0.4
    written = text.split("it writes:\n")[1:]
    assert len(written) == len(models)
    assert all(len(part) > 80 for part in written)


@pytest.mark.slow
@pytest.mark.parametrize("style", STYLES)
def test_characters_are_read_from_a_file(style, tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("äpfel und birnen, " * 2000, "utf-8")
    arguments = ("--text", path, "--model", "lstm", "--steps", "60", "--length", "40")
    text = output_of("characters", *arguments, "--style", style)
    assert numbers(r"lstm: ([\d.]+) bits", text)[0] < 0.2
    assert "birnen, äpfel" in text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("steps", "shown"), [(25, (3, 5, 8, 10, 13, 15, 18, 20, 23, 25)), (3, (1, 2, 3))]
)
def test_character_models_print_at_most_ten_progress_lines(steps, shown, tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("one two three four five, " * 200, encoding="utf-8")
    options = ("--text", path, "--model", "rnn", "--steps", steps, "--length", 1)
    texts = [output_of("characters", *options, "--style", style) for style in STYLES]
    for text in texts:
        lines = re.findall(rf"^step +(\d+)/{steps}: ([\d.]+) bits .* \d+ s$", text, re.MULTILINE)
        assert tuple(int(step) for step, _ in lines) == shown
        assert float(lines[-1][1]) < float(lines[0][1])


def test_an_ensemble_is_better_than_its_members():
    text = output_of("ensemble", "--quick")
    (member, member_loss) = numbers(r"on average +([\d.]+) +([\d.]+)", text)
    (whole, whole_loss) = numbers(r"the ensemble +([\d.]+) +([\d.]+)", text)
    assert whole >= member > 0.8
    assert whole_loss < member_loss
    agree, right, rest = numbers(
        r"on (\d+)% .* ([\d.]+)% of these are classified correctly; .* others, ([\d.]+)%", text
    )
    assert 50 < agree < 100
    assert right > rest


def test_per_example_gradients_find_wrong_labels():
    text = output_of("per_example_gradients", "--quick")
    (found,) = numbers(r"largest gradients, ([\d.]+)%", text)
    (all_,) = numbers(r"of all gradients, ([\d.]+)%", text)
    assert found > 8 * all_


def test_private_training_learns_with_a_bounded_privacy_loss():
    text = output_of("private_training", "--quick")
    assert numbers(r"test accuracy ([\d.]+)", text)[0] > 0.75
    (epsilon,) = numbers(r"privacy loss: epsilon ([\d.]+)", text)
    assert 3 < epsilon < 5


@pytest.mark.usefixtures("example")
def test_the_privacy_loss_has_the_published_value():
    privacy_loss = importlib.import_module("private_training").privacy_loss
    # TensorFlow Privacy's tutorial on MNIST: 60 epochs with batches of 256 give 3.01.
    found = privacy_loss(256 / 60_000, 1.1, 60 * 60_000 // 256, 1e-5)
    assert round(found, 2) == 3.01


def test_an_adversarial_network_with_a_gradient_penalty_learns_a_circle(tmp_path):
    text = output_of("gradient_penalty", "--quick", "--output", tmp_path / "a.png")
    before, after = numbers(r"energy distance: before ([\d.]+), after ([\d.]+)", text)
    assert after < 0.3 * before
    assert 0.5 < numbers(r"norm of the critic: ([\d.]+)", text)[0] < 1.5
    assert (tmp_path / "a.png").exists()


@pytest.mark.usefixtures("example")
def test_the_gradient_of_the_penalty_agrees_with_differences():
    script = importlib.import_module("gradient_penalty")
    critic = F.serial(F.dense(5), F.tanh(), F.dense(1))
    params = tree.astype(critic.init(0, (2,)), np.float64)
    x = random.generator(1).normal(size=(6, 2))
    grads, norms = script.penalty_gradient(critic)(params, x)
    vector, unravel = tree.ravel(params)
    along = random.generator(2).normal(size=vector.shape)

    def penalty(by):
        _, norms = script.penalty_gradient(critic)(unravel(vector + by * along), x)
        return np.mean((norms - 1) ** 2)

    numeric = (penalty(1e-5) - penalty(-1e-5)) / 2e-5
    found = tree.ravel(tree.map(lambda g, _: g, grads, params))[0] @ along
    assert found == pytest.approx(numeric, rel=1e-6)
    assert norms.shape == (6, 1)


def test_a_network_solves_the_equation_roughly_in_few_steps(tmp_path):
    text = output_of("poisson", "--quick", "--output", tmp_path / "a.png")
    assert numbers(r"relative error of the solution: ([\d.e-]+)", text)[0] < 3e-2
    assert (tmp_path / "a.png").exists()


@pytest.mark.slow
def test_a_network_solves_the_equation():
    text = output_of("poisson")
    assert numbers(r"relative error of the solution: ([\d.e-]+)", text)[0] < 1e-3


@pytest.mark.usefixtures("example")
def test_the_gradient_of_the_residuals_agrees_with_differences():
    script = importlib.import_module("poisson")
    model = F.serial(F.dense(6), F.tanh(), F.dense(2))
    vector, unravel = tree.ravel(tree.astype(model.init(0, (1,)), np.float64))
    loss = script.residual_loss(model, np.linspace(0, 1, 9)[:, None])
    along = random.generator(2).normal(size=vector.shape)
    ends = [loss(unravel(vector + by * along))[0] for by in (1e-5, -1e-5)]
    found = tree.ravel(loss(unravel(vector))[1])[0] @ along
    assert found == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-6)


@pytest.mark.slow
def test_a_digit_without_salient_pixels_is_not_recognized(tmp_path):
    text = output_of("saliency", "--quick", "--output", tmp_path / "a.png")
    most, chance, least = (
        numbers(rf"{name} +[\d.]+ +([\d.]+) +[\d.]+ +[\d.]+", text)[0]
        for name in ("with the most support", "at random", "with the least support")
    )
    assert most < chance - 0.1
    assert chance <= least
    for method in ("saliency", "integrated gradients"):
        assert numbers(rf"^{method} +([\d.]+)$", text)[0] < chance - 0.1
    assert numbers(r"^grad cam +([\d.]+)$", text)[0] < 1
    assert numbers(r"the difference of the scores by ([\d.]+)%", text)[0] < 1
    assert (tmp_path / "a.png").exists()


def test_evolution_balances_the_pole_for_longer():
    text = output_of("evolution", "--quick")
    (before,) = numbers(r"before: (\d+)", text)
    (after,) = numbers(r"after: (\d+)", text)
    assert after > 1.5 * before


@pytest.mark.slow
def test_meta_learning_beats_training_on_all_waves():
    text = output_of("maml", "--quick")
    learnt = numbers(r"meta-learned" + 5 * r" +([\d.]+)", text)
    together = numbers(r"trained on all" + 5 * r" +([\d.]+)", text)
    assert learnt[-1] < 0.7 * together[-1]
    assert learnt[-1] < 0.7 * learnt[0]


@pytest.mark.slow
def test_a_sweep_has_the_same_bits_in_another_process():
    text = output_of("sweep", "--quick")
    assert "same bits: yes" in text
    assert len(re.findall(r"^ +[\d.e-]+ +[\d.]+ +[\d.]+ +[\d.]+$", text, re.MULTILINE)) == 3
    assert numbers(r"test accuracy of ([\d.]+)", text)[0] > 0.85


@pytest.mark.slow
def test_the_same_seed_prints_the_same():
    first, second = (output_of("per_example_gradients", "--quick") for _ in range(2))
    other = output_of("per_example_gradients", "--quick", "--seed", "1")
    assert first == second != other
