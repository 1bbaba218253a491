"""Faults of a store: how readers of training data behave on the same images, server and faults.

    cargo build --release -p understudy-pipelines --bench faults --bin shards   # prints FAULTS' path
    unshare -rnm sh -c 'ip link set lo up; python benches/faults.py FAULTS SHARDS WEED IMAGES'

The dataset is written once for each reader, in its own format, to a SeaweedFS server. A proxy (FAULTS
proxy) is between the server and the reader. The reader runs in a process of its own and returns the
encoded bytes of each image, in order and without shuffling. An outcome is `right` (every image once,
byte for byte), `missing` or `wrong data` (it ended without an error, with other bytes), `error` (it
ended with a message), `hang` (no image for 60 s). Understudy returns decoded images, whose hash is
compared with that of a run without faults.

Needs boto3 and pyarrow, and those of datasets with s3fs, webdataset, mosaicml-streaming and litdata
that are to be compared. IMAGES is a folder of class folders.
"""

import argparse
import collections
import hashlib
import io
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import warnings
from pathlib import Path

HANGS_AFTER = 60
BUCKET = "sets"
KEYS = {"aws_access_key_id": "testkey", "aws_secret_access_key": "testsecret"}

# ---- readers: each yields the bytes of one image after another


def read_datasets(endpoint, _local):
    import datasets

    options = {"key": KEYS["aws_access_key_id"], "secret": KEYS["aws_secret_access_key"],
               "client_kwargs": {"endpoint_url": endpoint, "region_name": "us-east-1"}}
    stream = datasets.load_dataset(
        "parquet", data_files=f"s3://{BUCKET}/parquet/*.parquet", split="train", streaming=True,
        storage_options=options)
    for row in stream.cast_column("image", datasets.Image(decode=False)):
        yield row["image"]["bytes"]


def read_webdataset(endpoint, _local):
    import webdataset

    n_shards = int(os.environ["N_TARS"])
    urls = f"{endpoint}/{BUCKET}/tar/{{00000..{n_shards - 1:05d}}}.tar"
    for sample in webdataset.WebDataset(urls, shardshuffle=False):
        yield sample["jpg"]


def read_mosaicml(endpoint, local, validate_hash="xxh64"):
    import streaming

    os.environ["S3_ENDPOINT_URL"] = endpoint
    dataset = streaming.StreamingDataset(
        remote=f"s3://{BUCKET}/mds", local=local, batch_size=1, validate_hash=validate_hash)
    for sample in dataset:
        yield sample["image"]


def read_mosaicml_default(endpoint, local):
    yield from read_mosaicml(endpoint, local, validate_hash=None)


def read_litdata(endpoint, local):
    import litdata
    from litdata.streaming import downloader

    # Its Rust client refuses plain HTTP, and has no setting for it.
    downloader._OBSTORE_CLIENT_OPTIONS["allow_http"] = True
    options = {**KEYS, "endpoint_url": endpoint, "region_name": "us-east-1"}
    dataset = litdata.StreamingDataset(
        f"s3://{BUCKET}/litdata", cache_dir=local, storage_options=options)
    for sample in dataset:
        yield sample["image"]


READERS = {
    "Understudy": None,
    "datasets": read_datasets,
    "webdataset": read_webdataset,
    "mosaicml, hashes on": read_mosaicml,
    "mosaicml": read_mosaicml_default,
    "litdata": read_litdata,
}
# The folder of each reader's objects, one of which is replaced during a run.
FOLDERS = {"Understudy": "parquet", "datasets": "parquet", "webdataset": "tar",
           "mosaicml, hashes on": "mds", "mosaicml": "mds", "litdata": "litdata"}
WITH_CACHE = ["mosaicml, hashes on", "mosaicml", "litdata"]


def reader_main(name, endpoint, local):
    for data in READERS[name](endpoint, local):
        print(hashlib.sha256(data).hexdigest(), flush=True)
    print("end", flush=True)
    os._exit(0)  # Some readers leave threads and processes that do not end.


# ---- the dataset in each format


def write_formats(shards, images, work, per_shard):
    import pyarrow.parquet

    subprocess.run(
        [shards, "write", images, "--to", work / "parquet", "--shard-bytes", "640KiB",
         "--row-group-bytes", "128KiB"], check=True, stdout=subprocess.DEVNULL)
    rows = []
    for shard in sorted((work / "parquet").glob("*.parquet")):
        for image in pyarrow.parquet.read_table(shard, columns=["image"])["image"]:
            rows.append(image["bytes"].as_py())
    (work / "tar").mkdir()
    for at in range(0, len(rows), per_shard):
        with tarfile.open(work / "tar" / f"{at // per_shard:05d}.tar", "w") as tar:
            for i, data in enumerate(rows[at:at + per_shard], at):
                entry = tarfile.TarInfo(f"{i:06d}.jpg")
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
    try:
        import streaming

        with streaming.MDSWriter(out=str(work / "mds"), columns={"image": "bytes"},
                                 hashes=["xxh64"], size_limit=640 << 10) as writer:
            for data in rows:
                writer.write({"image": data})
    except ImportError as error:
        print(f"without mosaicml-streaming: {error}", file=sys.stderr)
    try:
        import litdata

        write_litdata(litdata, rows, work / "litdata")
    except ImportError as error:
        print(f"without litdata: {error}", file=sys.stderr)
    return rows


class Row:
    """The function by which litdata's workers turn a number into a row."""

    def __init__(self, rows):
        self.rows = rows

    def __call__(self, i):
        return {"image": self.rows[i]}


def write_litdata(litdata, rows, to):
    warnings.simplefilter("ignore")  # About images that make a chunk too large.
    litdata.optimize(fn=Row(rows), inputs=list(range(len(rows))), output_dir=str(to),
                     chunk_bytes="640KB", num_workers=1, keep_data_ordered=True, verbose=False)


# ---- the server, the proxy and the runs


class Weed:
    def __init__(self, program, work, port=18333):
        self.port = port
        (work / "weed").mkdir()
        identities = {"identities": [
            {"name": "test", "actions": ["Admin", "Read", "List", "Write"],
             "credentials": [{"accessKey": "testkey", "secretKey": "testsecret"}]},
            {"name": "anonymous", "actions": ["Read"]}]}  # curl signs nothing.
        (work / "s3.json").write_text(json.dumps(identities))
        names = ["s3.port", "master.port", "volume.port", "filer.port", "master.port.grpc",
                 "volume.port.grpc", "filer.port.grpc", "s3.port.grpc"]
        ports = [f"-{name}={port + i}" for i, name in enumerate(names)]
        self.command = [
            program, "-logtostderr=true", "server", "-filer", "-s3", *ports, "-s3.port.iceberg=0",
            "-s3.port.lance=0", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.telemetry=false",
            "-volume.max=1000", "-master.volumeSizeLimitMB=256", "-volume.preStopSeconds=0",
            f"-dir={work / 'weed'}", f"-s3.config={work / 's3.json'}"]
        self.log = open(work / "weed.log", "wb")
        self.start()

    def start(self):
        import urllib.request

        self.process = subprocess.Popen(self.command, stdout=self.log, stderr=self.log)
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port + 1}/dir/assign") as page:
                    if b"fid" in page.read():
                        client(self).list_buckets()
                        return
            except Exception:
                time.sleep(0.1)

    def kill(self):
        self.process.kill()
        self.process.wait()
        for i in range(8):
            for path in Path("/tmp").glob(f"seaweedfs-*{self.port + i}.sock"):
                path.unlink(missing_ok=True)


def client(weed):
    import boto3

    return boto3.client("s3", endpoint_url=f"http://127.0.0.1:{weed.port}",
                        region_name="us-east-1", **KEYS)


class Proxy:
    def __init__(self, program, weed):
        self.process = subprocess.Popen(
            [program, "proxy", f"127.0.0.1:{weed.port}"], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True)
        self.endpoint = "http://" + self.process.stdout.readline().strip()

    def tell(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


class Lab:
    def __init__(self, arguments, work):
        self.arguments, self.work = arguments, work
        self.rows = write_formats(arguments.shards, arguments.images, work, per_shard=18)
        self.expected = collections.Counter(hashlib.sha256(row).hexdigest() for row in self.rows)
        self.weed = Weed(arguments.weed, work)
        self.s3 = client(self.weed)
        self.s3.create_bucket(Bucket=BUCKET)
        self.objects = collections.defaultdict(list)
        for folder in ["parquet", "tar", "mds", "litdata"]:
            for path in sorted((work / folder).glob("**/*")):
                if path.is_file() and ".understudy" not in path.parts:
                    key = f"{folder}/{path.relative_to(work / folder)}"
                    self.put(key, path)
                    self.objects[folder].append((key, path))
        self.n_tars = len(self.objects["tar"])
        self.proxy = Proxy(arguments.faults, self.weed)
        config = arguments.config.read_text().replace("ENDPOINT-URL", f"s3://{BUCKET}/parquet")
        (work / "config.toml").write_text(config)
        self.our_digest = None

    def put(self, key, path):
        self.s3.put_object(Bucket=BUCKET, Key=key, Body=path.read_bytes())

    def shards_of(self, name):
        objects = self.objects[FOLDERS[name]]
        return [(key, path) for key, path in objects if path.suffix not in (".json", ".jsonl")]

    def run(self, name, local, meanwhile=None):
        """Runs a reader and returns its outcome."""
        environment = {key: value for key, value in os.environ.items() if "proxy" not in key.lower()}
        environment |= {
            "AWS_ACCESS_KEY_ID": "testkey", "AWS_SECRET_ACCESS_KEY": "testsecret",
            "AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": self.proxy.endpoint, "N_TARS": str(self.n_tars),
            "HF_HOME": str(self.work / "hf"), "HF_HUB_OFFLINE": "1", "AWS_EC2_METADATA_DISABLED": "true"}
        command = [sys.executable, __file__, "--reader", name, self.proxy.endpoint, str(local)]
        if name == "Understudy":
            command = [self.arguments.faults, "read", self.work / "config.toml"]
        errors = open(self.work / "errors", "w+b")
        start = time.monotonic()
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=errors,
                                   text=True, start_new_session=True)
        lines = queue.Queue()

        def listen():
            for line in process.stdout:
                lines.put(line.strip())
            lines.put(None)

        threading.Thread(target=listen, daemon=True).start()
        said, hangs, longest, last = [], False, 0.0, time.monotonic()
        while True:
            try:
                line = lines.get(timeout=HANGS_AFTER)
            except queue.Empty:
                hangs = True
                break
            longest, last = max(longest, time.monotonic() - last), time.monotonic()
            if line is None:
                break
            said.append(line)
            if len(said) == 3 and meanwhile:
                meanwhile()
        took = time.monotonic() - start
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()
        errors.seek(0)
        words = errors.read().decode(errors="replace").strip().splitlines()
        outcome = self.judge(name, said, hangs, words)
        return {"outcome": outcome, "secs": round(took, 1), "longest_wait": round(longest, 1),
                "last_words": short(words) if words else ""}

    def judge(self, name, said, hangs, words):
        if hangs:
            return f"hang after {max(len(said), 0)} images"
        if name == "Understudy":
            if not said or not said[-1].startswith("{"):
                return "error: " + short(words)
            digest = json.loads(said[-1])["digest"]
            self.our_digest = self.our_digest or digest
            return "right" if digest == self.our_digest else "wrong data"
        if not said or said[-1] != "end":
            return "error: " + short(words)
        found = collections.Counter(said[:-1])
        if found == self.expected:
            return "right"
        strange = sum((found - self.expected).values())
        missing = sum((self.expected - found).values())
        if strange:
            return f"wrong data: {strange} of {len(self.rows)} images differ"
        return f"missing: {missing} of {len(self.rows)} images"


def short(words):
    """Returns the last line that names an error."""
    telling = [line.strip() for line in words if "Error" in line or "ERROR" in line] or words
    return telling[-1].split("ERROR faults: ")[-1][:160] if telling else "(no message)"


# ---- the table

# Commands to the proxy: a fault for BURST of every EVERY reads of objects.
FAULTS = {
    "none": "no",
    "429, Retry-After 1 s, every 10th read": "fault 429 10 1 1",
    "503 SlowDown, bursts of 2 in 40": "fault 503 40 2",
    "503 SlowDown, bursts of 8 in 40": "fault 503 40 8",
    "reset in mid-body, every 5th read": "fault reset 5 1",
    "30 s stall in mid-body, every 12th read": "fault stall 12 1 30",
    "truncated body, every 5th read": "fault truncate 5 1",
    "bit flip, every 5th read": "fault flip 5 1",
    "bandwidth to 10 % (1.5 MB/s)": "line 0 1500000",
}
SLOW = "line 0 3000000"  # So that something can happen meanwhile.


def measure(lab, name, what):
    local = Path(tempfile.mkdtemp(dir=lab.work))
    before = lab.proxy.tell(FAULTS.get(what, SLOW))
    meanwhile = None
    if what == "object replaced during the run":
        (key, path), (_, other) = lab.shards_of(name)[-1], lab.shards_of(name)[-3]
        meanwhile = lambda: lab.put(key, other)
    elif what in OUTAGES:
        secs = OUTAGES[what]

        def outage():
            lab.weed.kill()
            time.sleep(secs)
            lab.weed.start()

        meanwhile = lambda: threading.Thread(target=outage).start()
    elif what == "cache on a full disk":
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=5m", "tmpfs", local], check=True)
    elif what == "cache entry corrupted":
        lab.run(name, local)
        flip_largest(local)
        before = lab.proxy.tell("no")
    result = lab.run(name, local, meanwhile)
    after = lab.proxy.tell("no")
    lab.proxy.tell("line 0 0")
    if what == "object replaced during the run":
        lab.put(key, path)
    while lab.weed.process.poll() is not None:
        time.sleep(0.5)
    for thread in threading.enumerate():
        if thread is not threading.main_thread() and not thread.daemon:
            thread.join()
    if what == "cache on a full disk":
        subprocess.run(["umount", "-l", local], check=True)
    shutil.rmtree(local, ignore_errors=True)
    result["faults"] = after["faults"] - before["faults"]
    result["reads"] = after["reads"] - before["reads"]
    return result


OUTAGES = {"server killed, back after 5 s": 5, "server killed, back after 30 s": 30}
OTHERS = ["object replaced during the run", *OUTAGES]
OF_CACHES = ["cache on a full disk", "cache entry corrupted"]


def flip_largest(folder):
    """Flips one bit in the middle of a cached shard, not of an index nor of a small file."""
    files = [path for path in folder.glob("**/*") if path.is_file() and path.suffix != ".json"]
    path = max(files, key=lambda path: (path.stat().st_size, path.name))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


def version(name):
    import importlib.metadata as metadata

    package = name.split(",")[0].replace("mosaicml", "mosaicml-streaming")
    return "" if name == "Understudy" else f" {metadata.version(package)}"


def main():
    if sys.argv[1:2] == ["--reader"]:
        return reader_main(*sys.argv[2:])
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ["faults", "shards", "weed"]:
        parser.add_argument(name)
    parser.add_argument("images")
    parser.add_argument("--config", type=Path, default=Path(__file__).with_name("faults.toml"))
    parser.add_argument("--readers", nargs="*", default=list(READERS))
    parser.add_argument("--only", nargs="*", help="faults whose names contain one of these")
    parser.add_argument("--work", type=Path)
    arguments = parser.parse_args()
    work = arguments.work or Path(tempfile.mkdtemp())
    work.mkdir(exist_ok=True)
    lab = Lab(arguments, work)
    try:
        for what in [*FAULTS, *OTHERS, *OF_CACHES]:
            if arguments.only and not any(part in what for part in ["none", *arguments.only]):
                continue
            for name in arguments.readers:
                if what in OF_CACHES and name not in WITH_CACHE:
                    continue
                result = measure(lab, name, what)
                print(json.dumps({"fault": what, "reader": name + version(name), **result}), flush=True)
    finally:
        lab.proxy.process.kill()
        lab.weed.kill()
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
