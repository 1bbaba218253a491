"""Audio and text: Understudy compared with soundfile + soxr and Hugging Face tokenizers, in turns.

    cargo build --release -p understudy-pipelines --bench media      # prints the path of the binary
    python benches/audio_style.py BINARY AUDIO TEXT VOCABULARY [--rounds 3] [--files 40]

AUDIO is a folder of FLAC or WAV files, TEXT a text file, VOCABULARY a folder with vocab.json and
merges.txt. One thread each; files are read into memory before the clock starts; CPU time. The
outputs are compared before anything is timed: decoded frames and ids bit for bit, resampled frames
by their number and power. Prints one JSON object, the best round of each.
"""

import argparse
import hashlib
import io
import json
import subprocess
import tempfile
import time
from pathlib import Path

import numpy
import soundfile
import soxr
import tokenizers


def ours(binary, *arguments):
    command = [binary, *map(str, arguments)]
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)


def cpu_secs(work):
    start = time.process_time()
    work()
    return time.process_time() - start


def decode(data):
    frames, rate = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    return frames.mean(1, dtype="float32"), rate


def training_waveform(data, to_hz):
    frames, rate = decode(data)
    if rate != to_hz:
        frames = soxr.resample(frames, rate, to_hz)
    return (frames - frames.mean()) / numpy.sqrt(frames.var() + 1e-5)


def audio(binary, paths, to_hz, rounds):
    files = [path.read_bytes() for path in paths]
    first = ours(binary, "audio", to_hz, *paths)
    decoded = [decode(data) for data in files]
    digest = hashlib.sha256(b"".join(frames.tobytes() for frames, _ in decoded)).hexdigest()
    assert digest == first["decoded_sha256"], "the decoded frames differ"
    resampled = [x if rate == to_hz else soxr.resample(x, rate, to_hz) for x, rate in decoded]
    rms = numpy.sqrt(numpy.mean(numpy.concatenate(resampled).astype("f8") ** 2))
    assert abs(sum(map(len, resampled)) - first["resampled_frames"]) <= len(files)
    assert abs(rms / first["resampled_rms"] - 1) < 1e-3, "the resampled waveforms differ"
    runs = [first]
    theirs = {"decode": [], "all": []}
    for _ in range(rounds):
        theirs["decode"].append(cpu_secs(lambda: [decode(data) for data in files]))
        theirs["all"].append(cpu_secs(lambda: [training_waveform(data, to_hz) for data in files]))
        runs.append(ours(binary, "audio", to_hz, *paths))
    seconds = first["seconds"]
    return {
        "seconds_of_audio": round(seconds, 1),
        "from_hz": decoded[0][1],
        "to_hz": to_hz,
        "decode": rates(seconds, [run["decode_cpu_secs"] for run in runs], theirs["decode"]),
        "decode_resample_normalise": rates(
            seconds, [run["decode_resample_normalise_cpu_secs"] for run in runs], theirs["all"]
        ),
    }


def text(binary, path, vocabulary, rounds):
    first = ours(binary, "text", vocabulary, path)
    model = tokenizers.models.BPE.from_file(f"{vocabulary}/vocab.json", f"{vocabulary}/merges.txt")
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    lines = path.read_bytes().decode().split("\n")

    def encode():
        return [tokenizer.encode(line, add_special_tokens=False).ids for line in lines]

    ids = numpy.concatenate([numpy.array(row, "<u4") for row in encode()])
    assert hashlib.sha256(ids.tobytes()).hexdigest() == first["ids_sha256"], "the ids differ"
    theirs, runs = [], [first]
    for _ in range(rounds):
        theirs.append(cpu_secs(encode))
        runs.append(ours(binary, "text", vocabulary, path))
    megabytes = first["bytes"] / 1e6
    return {"megabytes": round(megabytes, 2), "tokens": first["tokens"]} | rates(
        megabytes, [run["cpu_secs"] for run in runs], theirs
    )


def rates(work, own, theirs):
    """Returns both rates per CPU-second, and their ratio."""
    return {
        "here": round(work / min(own), 1),
        "python": round(work / min(theirs), 1),
        "times": round(min(theirs) / min(own), 2),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("binary")
    parser.add_argument("audio", type=Path)
    parser.add_argument("text", type=Path)
    parser.add_argument("vocabulary", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--files", type=int, default=40)
    arguments = parser.parse_args()
    paths = sorted(p for p in arguments.audio.rglob("*") if p.suffix in {".flac", ".wav"})
    paths = paths[: arguments.files]
    if not paths:
        parser.error(f"no FLAC or WAV files in {arguments.audio}")
    binary, rounds = arguments.binary, arguments.rounds
    report = {
        "soundfile": soundfile.__version__,
        "soxr": soxr.__version__,
        "tokenizers": tokenizers.__version__,
        "as_stored": audio(binary, paths, soundfile.info(paths[0]).samplerate, rounds),
    }
    with tempfile.TemporaryDirectory() as folder:
        faster = []
        for i, path in enumerate(paths):
            frames, rate = decode(path.read_bytes())
            faster.append(Path(folder) / f"{i}.flac")
            soundfile.write(faster[-1], soxr.resample(frames, rate, 44100), 44100)
        report["resampled"] = audio(binary, faster, 16000, rounds)
    report["text"] = text(binary, arguments.text, arguments.vocabulary, rounds)
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
