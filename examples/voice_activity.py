"""Find the speech in a recording, with the pretrained weights of Silero VAD.

The weights are a file of the package silero-vad. The network reads a recording in chunks of 32 ms:
a Fourier transform, four convolutions and an LSTM, whose state goes from chunk to chunk. The script
prints the probability of speech over time, with a line for two seconds.

    pip install silero-vad
    python examples/voice_activity.py --audio speech.wav

Without `--audio`, it synthesizes vowels with pauses.
"""

import argparse
import wave
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from options import file, integer, refuse, seed

import npdl.functional as F
from npdl import checkpoint, random

RATE, CHUNK, CONTEXT = 16_000, 512, 64  # samples per second, per chunk, and before each chunk


def convolution(filters, stride):
    """Return a convolution over time with a ReLU."""
    return F.serial(F.conv1d(filters, 3, stride=stride, padding=1), F.relu())


# From a chunk of 576 samples and a state to the probability of speech and the next state.
MODEL = F.graph(
    ("chunk", "state"),
    {
        "sound": (F.serial(F.expand_dims(1), F.pad((0, CONTEXT), mode="reflect")), "chunk"),
        "fourier": (F.conv1d(258, 256, stride=128, bias=False), "sound"),
        "spectrum": (F.magnitude(), "fourier"),
        "features": (
            F.serial(
                *(convolution(128, 1), convolution(64, 2), convolution(64, 2)),
                *(convolution(128, 1), F.squeeze(-1)),
            ),
            "spectrum",
        ),
        ("memory", "next_state"): (F.one_step(F.lstm(128)), ("features", "state")),
        "score": (F.serial(F.relu(), F.expand_dims(-1), F.conv1d(1, 1), F.flatten()), "memory"),
        "probability": (F.sigmoid(), "score"),
    },
    ("probability", "next_state"),
)


def weights(path):
    """Return the parameters; the sizes of the arrays determine the layer of each one."""
    return checkpoint.from_torch(path, MODEL, like=MODEL.init(0, ((CONTEXT + CHUNK,), None)))


def package_file(name):
    """Return the path of a file of the package silero-vad, or `None`; nothing is imported."""
    package = find_spec("silero_vad")
    return package and Path(package.origin).parent / "data" / name


def probabilities(params, audio):
    """Return the probability of speech for each chunk of a recording, a vector of float32."""
    padded, state, found = np.pad(audio, (CONTEXT, 0)), None, []
    for start in range(0, len(audio) - CHUNK + 1, CHUNK):
        chunk = padded[None, start : start + CONTEXT + CHUNK]
        probability, state = MODEL(params, (chunk, state))
        found.append(probability.item())
    return np.array(found, np.float32)


# The resonances (Hz) of five vowels, and their bandwidths.
VOWELS = [
    (730, 1090, 2440),
    (270, 2290, 3010),
    (300, 870, 2240),
    (530, 1840, 2480),
    (570, 840, 2410),
]
BANDWIDTHS = (80, 100, 140)


def vowel(generator):
    """Return a vowel of a voice: pulses of the glottis through three resonances."""
    length = int(RATE * generator.uniform(0.12, 0.3))
    glide = np.sin(np.linspace(0, generator.uniform(2, 6), length))
    pitch = generator.uniform(95, 140) * (1 + 0.1 * glide)
    pulses = np.diff(np.floor(np.cumsum(pitch) / RATE), prepend=0)
    spectrum = np.fft.rfft(pulses, 2 * length)
    delay = np.exp(-1j * np.pi * np.arange(length + 1) / length)
    for frequency, bandwidth in zip(generator.choice(VOWELS), BANDWIDTHS, strict=True):
        pole = np.exp(np.pi * (2j * frequency - bandwidth) / RATE)
        spectrum /= (1 - pole * delay) * (1 - pole.conj() * delay)
    sound = np.fft.irfft(spectrum)[:length] * np.hanning(length)
    return 0.5 * sound / np.abs(sound).max()


def synthesized(seconds, key):
    """Return groups of vowels with pauses, in a faint noise."""
    generator = random.generator(key)
    audio, start = 1e-3 * generator.normal(size=RATE * seconds), 0
    while start < len(audio):
        group = np.concatenate([vowel(generator) for _ in range(generator.integers(2, 9))])
        group = group[: len(audio) - start]
        audio[start : start + len(group)] += group
        start += len(group) + int(RATE * generator.uniform(0.3, 1.5))
    return audio.astype(np.float32)


def recorded(path):
    """Return a recording of 16-bit samples from -1 to 1."""
    try:
        with wave.open(str(path)) as recording:
            form = recording.getframerate(), recording.getnchannels(), recording.getsampwidth()
            data = recording.readframes(recording.getnframes())
    except (wave.Error, EOFError) as error:
        refuse(f"{path} is not a WAV file: {error}")
    if form != (RATE, 1, 2):
        refuse(f"{path} has (rate, channels, bytes) {form}; expected {(RATE, 1, 2)}")
    return np.frombuffer(data, "<i2").astype(np.float32) / 32768


def main():
    """Print the probability of speech over time."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--audio", type=file, help="a WAV file of 16 kHz, one channel, 16 bits")
    parser.add_argument("--seconds", type=integer(1, 3600), help="of synthesized sound, default 20")
    parser.add_argument("--seed", type=seed, default=0, help="seed of the synthesized sound")
    parser.add_argument("--quick", action="store_true", help="four seconds")
    arguments = parser.parse_args()
    seconds = arguments.seconds or (4 if arguments.quick else 20)
    path = package_file("silero_vad_16k.safetensors")
    if path is None:
        refuse("the weights are in a package: pip install silero-vad")
    key = random.key(arguments.seed)
    audio = recorded(arguments.audio) if arguments.audio else synthesized(seconds, key)
    found = probabilities(weights(path), audio)

    line = 2 * RATE // CHUNK
    for start in range(0, len(found), line):
        levels = (found[start : start + line] * 9.999).astype(int)
        print(f"{start * CHUNK / RATE:6.1f} s  {''.join(' .:-=+*#%@'[level] for level in levels)}")
    print(f"speech in {np.mean(found > 0.5):.0%} of {len(audio) / RATE:.1f} seconds")


if __name__ == "__main__":
    main()
