"""Silero VAD in npdl against the package's own ONNX file in onnxruntime."""

import re
import runpy
import shutil
import subprocess
import wave
from pathlib import Path

import numpy as np
import pytest

from npdl import onnx as npdl_onnx
from npdl.checkpoint import from_torch, to_torch

EXAMPLE = Path(__file__).parents[2] / "examples" / "voice_activity.py"
NAMES = {"": "model", "fourier/weight": "model.stft.forward_basis_buffer"}
SECONDS = 60
TEXT = (
    "The quick brown fox jumps over the lazy dog. How many words are there, and who counts them? "
)
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def script():
    """Return the names of the example."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(EXAMPLE.parent)
        return runpy.run_path(str(EXAMPLE))


@pytest.fixture(scope="module")
def twin(script):
    """Return the ONNX model of the package and its arrays by name."""
    onnx = pytest.importorskip("onnx")
    path = script["package_file"]("silero_vad_16k_op15.onnx")
    if path is None:
        pytest.skip("silero-vad is not installed")
    model = onnx.load(path)
    arrays = {each.name: onnx.numpy_helper.to_array(each) for each in model.graph.initializer}
    return model, arrays


def synthesized(script, folder):
    return script["synthesized"](SECONDS, (1,))


def spoken(script, folder):
    """Return a minute of speech by espeak-ng, in 16 kHz."""
    if shutil.which("espeak-ng") is None:
        pytest.skip("espeak-ng is not installed")
    path = folder / "speech.wav"
    subprocess.run(["espeak-ng", "-w", path, 12 * TEXT], check=True)
    with wave.open(str(path)) as recording:
        rate = recording.getframerate()
        samples = np.frombuffer(recording.readframes(recording.getnframes()), "<i2") / 32768
    times = np.arange(SECONDS * script["RATE"]) / script["RATE"]
    return np.interp(times, np.arange(len(samples)) / rate, samples).astype(np.float32)


def run(script, model, audio):
    """Return the probabilities of onnxruntime."""
    onnxruntime = pytest.importorskip("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    chunk, context = script["CHUNK"], script["CONTEXT"]
    padded = np.pad(audio, (context, 0))
    state, rate, found = np.zeros((2, 1, 128), np.float32), np.array(script["RATE"]), []
    for start in range(0, len(audio) - chunk + 1, chunk):
        part = padded[None, start : start + context + chunk]
        probability, state = session.run(None, {"input": part, "state": state, "sr": rate})
        found.append(probability.item())
    return np.array(found)


@pytest.mark.parametrize("audio", [synthesized, spoken], ids=["synthesized", "espeak-ng"])
@pytest.mark.parametrize("weights", ["onnx", "safetensors"])
def test_probabilities_agree_with_onnxruntime(audio, weights, script, twin, tmp_path):
    """The two files of the package have different weights, so each is compared in one network."""
    onnx, (model, arrays) = pytest.importorskip("onnx"), twin
    sound = audio(script, tmp_path)
    assert len(sound) == SECONDS * script["RATE"]
    like = script["weights"](script["package_file"]("silero_vad_16k.safetensors"))
    if weights == "onnx":
        params = from_torch(arrays, script["MODEL"], like, NAMES, partial=True)
    else:
        params = like
        names = NAMES | {
            "memory": "model.decoder.rnn",
            "score/2": "model.decoder.decoder.2",
            **{f"features/{i}/0": f"model.encoder.{i}.reparam_conv" for i in range(4)},
        }
        changed = to_torch(params, script["MODEL"], names)
        assert changed.keys() <= arrays.keys()
        model = onnx.ModelProto.FromString(model.SerializeToString())
        for each in model.graph.initializer:
            if each.name in changed:
                each.CopyFrom(onnx.numpy_helper.from_array(changed[each.name], each.name))
    found = script["probabilities"](params, sound)
    assert np.abs(found - run(script, model, sound)).max() < 1e-4
    assert 0.4 < np.mean(found > 0.5) < 0.95
    assert np.mean((found < 0.1) | (found > 0.9)) > 0.7


def test_the_exported_network_computes_the_same(script, twin, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    params = script["weights"](script["package_file"]("silero_vad_16k.safetensors"))
    size = script["CONTEXT"] + script["CHUNK"]
    shape = ((size,), ((128,), (128,)))
    npdl_onnx.save(tmp_path / "vad.onnx", script["MODEL"], params, shape)
    session = onnxruntime.InferenceSession(tmp_path / "vad.onnx")
    chunk = script["synthesized"](1, (1,))[None, 8000 : 8000 + size]
    state = (np.full((1, 128), 0.1, np.float32), np.full((1, 128), 0.2, np.float32))
    inputs = dict(zip([each.name for each in session.get_inputs()], (chunk, *state), strict=True))
    probability, (h, c) = script["MODEL"](params, (chunk, state))
    for found, expected in zip(session.run(None, inputs), (probability, h, c), strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_the_script_prints_the_probability_over_time(example, twin, capsys):
    example("voice_activity", "--quick")
    *lines, last = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["0.0", "2.0", "4.0"]
    assert all(set(line[9:]) <= set(" .:-=+*#%@") for line in lines)
    assert re.fullmatch(r"speech in \d+% of 4\.0 seconds", last)


def write_wav(path, rate, channels):
    with wave.open(str(path), "wb") as recording:
        recording.setnchannels(channels)
        recording.setsampwidth(2)
        recording.setframerate(rate)
        recording.writeframes(bytes(4 * channels * rate))


RECORDINGS = {
    "stereo": (lambda path: write_wav(path, 16_000, 2), r"\(16000, 2, 2\); expected \(16000, 1, 2"),
    "another rate": (lambda path: write_wav(path, 8_000, 1), r"\(8000, 1, 2\); expected"),
    "no wav": (lambda path: path.write_bytes(b"ID3"), "speech.wav is not a WAV file: "),
}


@pytest.mark.parametrize(("write", "message"), RECORDINGS.values(), ids=RECORDINGS)
def test_other_recordings_are_refused(write, message, example, twin, tmp_path, capsys):
    write(tmp_path / "speech.wav")
    with pytest.raises(SystemExit, match="2"):
        example("voice_activity", "--audio", tmp_path / "speech.wav")
    assert re.search(message, capsys.readouterr().err)


def test_a_silent_recording_has_no_speech(example, twin, tmp_path, capsys):
    write_wav(tmp_path / "speech.wav", 16_000, 1)
    example("voice_activity", "--audio", tmp_path / "speech.wav")
    assert capsys.readouterr().out.endswith("speech in 0% of 2.0 seconds\n")
