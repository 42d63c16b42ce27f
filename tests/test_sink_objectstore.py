"""The object store sink, on an S3 server and on a local folder through fsspec."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import time
import types

import pytest
from command_line import call
from records import record

from runcard import configure, open_store, run
from runcard.errors import MissingExtra, RunNotFound, SettingError, StoreError
from runcard.sinks import _upload, objectstore

SERVER = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
server.stop()
"""


@pytest.fixture(scope="module")
def server():
    """The address of an S3 server in a process of its own."""
    command = [sys.executable, "-W", "ignore", "-c", SERVER]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        process.stdin.close()


@pytest.fixture(params=["local", "memory", "s3"])
def url(request, tmp_path, monkeypatch):
    """An empty prefix."""
    if request.param != "s3":
        return f"{request.param}://{tmp_path}/objects"
    address = request.getfixturevalue("server")
    for name, value in {
        "AWS_ENDPOINT_URL": address,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "hunter2secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    import s3fs

    bucket = f"b{time.time_ns()}"
    s3fs.S3FileSystem(skip_instance_cache=True).mkdir(bucket)
    return f"s3://{bucket}/team/runs"


def train(url, **options):
    options = {"sinks": ["file:", url], **options}
    with run("train", config={"lr": 0.1}, capture=["-git"], **options) as r:
        r.log(loss=0.5, big=2**70)
        r.log(loss=float("nan"))
        r.artifact_path("deep/model.bin").write_bytes(b"weights")
    return r


def test_a_run_comes_back_as_it_was(store, url):
    """The record and its history are the files' own; an artifact has its URI, size and hash."""
    r = train(url)
    there, here = open_store(url).get(r.run_id), store.get(r.run_id)
    (artifact,) = there.artifacts
    assert artifact.pop("uri") == f"{url}/{r.run_id}/artifacts/deep/model.bin"
    assert repr(there.to_dict()) == repr(here.to_dict())
    assert [point.value for point in open_store(url).history("latest", "big")] == [2**70]


@pytest.mark.parametrize(
    ("options", "sent"),
    [("", set()), ("?diff=1", {"diff.patch"}), ("?output=1&diff=1", {"diff.patch", "output.log"}), ("?diff=0", set())],
)
def test_code_and_console_leave_the_machine_only_when_asked_for(store, url, options, sent):
    """Uncommitted changes and console output go to another machine with diff=1 and output=1, to a folder always."""
    r = train(url, sinks=["file:"])
    for name in ("diff.patch", "output.log"):
        (r.folder / name).write_text("x = 'the secret idea'\n")
    sink = objectstore.open_sink(url + options)
    sink.finish(store.get(r.run_id))
    system, base = sink._system
    names = {objectstore._last(path) for path in objectstore._names(system, f"{base}/{r.run_id}")}
    assert names & {"diff.patch", "output.log"} == (sent if url.startswith("s3:") else {"diff.patch", "output.log"})
    assert {"journal.jsonl", "record.json", "requirements.txt", "artifacts"} <= names
    assert sink.url == url
    assert open_store(url).get(r.run_id).config == {"lr": 0.1}


def test_an_option_that_is_not_known_is_refused():
    """A URL with another option is said at once, with those there are."""
    for wrong in ("s3://bucket/x?diff=yes", "s3://bucket?dif=1"):
        with pytest.raises(SettingError, match="diff=1 and output=1"):
            configure(sinks=[wrong])


def test_a_late_judgement_stays(store, url):
    """A judgement in the object store is kept, also when the run is delivered again."""
    r = train(url)
    found = open_store(url).keep(r.run_id, "good")
    assert (found.decision, found.decision_reason) == ("keep", "good")
    objectstore.open_sink(url).finish(store.get(r.run_id))
    assert open_store(url).get(r.run_id).decision == "keep"
    with pytest.raises(RunNotFound):
        open_store(url).get("20260101T000000-aaaaaaaa")


def test_a_listing_needs_few_requests(url, monkeypatch):
    """The records of many runs lie together: far fewer objects are read than there are runs; none is lost."""
    monkeypatch.setattr(objectstore, "GATHER", 5)
    sink = objectstore.open_sink(url)
    for number in range(60):
        sink._list(record(number, name=f"n{number}"), ())
    sink._list(record(3, name="renamed"), ())
    fetched = []
    contents = objectstore._contents
    monkeypatch.setattr(
        objectstore, "_contents", lambda system, paths: fetched.extend(paths) or contents(system, paths)
    )
    names = [found.name for found in open_store(url).runs()]
    assert sorted(names) == sorted([f"n{number}" for number in range(60) if number != 3] + ["renamed"])
    assert len(fetched) <= 12


def test_folders_on_this_machine_are_for_their_owner(tmp_path):
    """Nobody else can look into what ``local://`` makes, as it is with a store of files."""
    r = train(f"local://{tmp_path}/deep/objects")
    made = [tmp_path / "deep", tmp_path / "deep" / "objects", tmp_path / "deep" / "objects" / r.run_id]
    assert [path.stat().st_mode & 0o777 for path in made] == [0o700] * 3


def test_an_empty_prefix_has_no_runs(url):
    """Nothing there is no error."""
    assert open_store(url).runs() == []


def test_doctor_can_try_it(url):
    """A probe writes and leaves nothing behind; where nothing can be written it says so, without the secret."""
    objectstore.open_sink(url).probe()
    assert open_store(url).runs() == []
    if url.startswith("s3:"):
        with pytest.raises(StoreError, match="s3://no-such-bucket") as caught:
            objectstore.open_sink("s3://no-such-bucket/x").probe()
        assert "hunter2secret" not in str(caught.value)


def test_bad_urls_and_missing_packages(monkeypatch):
    """No bucket, and no package: said when the sink is set."""
    import importlib.util

    for url in ("s3://", "s3:", "s3:///prefix"):
        with pytest.raises(SettingError, match="names no bucket; write s3://bucket/prefix"):
            configure(sinks=[url])
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(MissingExtra, match=r'pip install "runcard\[s3\]"'):
        configure(sinks=["s3://elsewhere/x"])


def test_every_file_system_of_fsspec_is_an_object_store(tmp_path, monkeypatch):
    """One that somebody registered takes runs, folders made where it has them; one without its package says so."""
    from fsspec.implementations.local import LocalFileSystem

    fsspec_registry = sys.modules["fsspec.registry"]  # the package's `registry` is another thing

    class Shelf(LocalFileSystem):
        protocol = "shelf"

        @classmethod
        def _strip_protocol(cls, path):
            return super()._strip_protocol(str(path).removeprefix("shelf://"))

    monkeypatch.setitem(fsspec_registry._registry, "shelf", Shelf)
    r = train(f"shelf://{tmp_path}/objects")
    assert open_store(f"shelf://{tmp_path}/objects").get(r.run_id).name == "train"
    assert (tmp_path / "objects" / r.run_id / "artifacts" / "deep" / "model.bin").read_bytes() == b"weights"
    monkeypatch.setitem(
        fsspec_registry.known_implementations, "drawer", {"class": "no_such_package.Drawer", "err": "Install drawerfs"}
    )
    with pytest.raises(MissingExtra, match="Install drawerfs"):
        configure(sinks=["drawer://elsewhere/x"])


def test_a_copy_of_an_object_store_has_its_files(tmp_path, store, url):
    """Into a folder and into another object store the artifacts come too; a late judgement is not left behind."""
    r = train(url)
    open_store(url).keep(r.run_id, "good")
    places = {"folder": str(tmp_path / "folder"), "objects": f"local://{tmp_path}/other"}
    for name, place in places.items():
        assert call("sync", url, place).stdout == "1 run copied\n"
        assert call("sync", url, place).stdout == "0 runs copied, 1 there already\n"
        root = tmp_path / ("folder" if name == "folder" else "other")
        assert (root / r.run_id / "artifacts" / "deep" / "model.bin").read_bytes() == b"weights"
        there = open_store(place).get(r.run_id)
        assert (there.decision, there.config, there.metrics["big"]) == ("keep", {"lr": 0.1}, 2**70)
    assert there.artifacts[0]["uri"] == f"{places['objects']}/{r.run_id}/artifacts/deep/model.bin"


def test_a_database_goes_into_an_object_store(tmp_path, store, url):
    """Its runs get a folder to upload; an artifact that no database holds has no URI in the copy."""
    database = f"sqlite:///{tmp_path}/runs.db"
    r = train(database)
    assert call("sync", database, url).stdout == "1 run copied\n"
    there = open_store(url).get(r.run_id)
    assert repr(there.to_dict()) == repr(store.get(r.run_id).to_dict())
    assert [point.value for point in open_store(url).history("latest", "big")] == [2**70]


def test_a_hostile_object_store_writes_nowhere_else(tmp_path, store):
    """A name that leads out of the run's folder is refused; nothing is written there."""
    url = f"memory://{tmp_path}/objects"
    r = train(url)
    system, base = objectstore.open_sink(url)._system
    system.store[f"{base}/{r.run_id}/../../evil.txt"] = type(system).open(system, f"{base}/x", "wb")
    done = call("sync", url, tmp_path / "copy")
    assert done.exit_code == 2
    assert "is no name of a file" in done.stderr
    assert list(tmp_path.rglob("*evil*")) == []


def test_a_listing_while_others_gather_misses_nothing(tmp_path, monkeypatch):
    """What is gathered between a listing and its reading is looked for again."""
    url = f"local://{tmp_path}/objects"
    sink = objectstore.open_sink(url)
    for number in range(4):
        sink._list(record(number), ())
    names, gathered = objectstore._names, []

    def racing(system, folder):
        found = names(system, folder)
        if not gathered:
            gathered.append(1)
            sink._gather(system, folder.removesuffix("/index"), found)
        return found

    monkeypatch.setattr(objectstore, "_names", racing)
    assert len(open_store(url).runs()) == 4


def test_a_spool_is_cleared_once_the_artifacts_are_uploaded(tmp_path):
    """Without a files sink, the run's folder goes once an object store has its artifacts; a database is not enough."""
    url = f"local://{tmp_path}/objects"
    for sink, left in ((url, 0), (f"sqlite:///{tmp_path}/runs.db", 1)):
        with run("r", sinks=[sink], capture=["-git"]) as r:
            r.artifact_path("w.bin").write_bytes(b"weights")
        assert len(list((tmp_path / "spool").glob("2*"))) == left
    assert len(list((tmp_path / "objects").rglob("w.bin"))) == 1


class Terminal(io.StringIO):
    """A standard error that is a terminal."""

    def isatty(self):
        return True


def large(folder, size):
    """A file whose parts differ."""
    path = folder / "model.bin"
    path.write_bytes(bytes(range(256)) * (size // 256))
    return path


def test_a_large_artifact_goes_up_in_parts(store, url, monkeypatch):
    """Above the setting, a file goes to S3 in parts; the record has its URI, size and hash, and they are true."""
    monkeypatch.setenv("RUNCARD_LARGE_ARTIFACT", "1MB")
    with run("train", sinks=["file:", url], capture=["-git"]) as r:
        large(r.folder.parent, 11 << 20).rename(r.artifact_path("model.bin"))
    (artifact,) = open_store(url).get(r.run_id).artifacts
    assert artifact.uri == f"{url}/{r.run_id}/artifacts/model.bin"
    system, base = objectstore.open_sink(url)._system
    target = f"{base}/{r.run_id}/artifacts/model.bin"
    assert hashlib.sha256(system.cat_file(target)).hexdigest() == artifact.sha256
    assert artifact.bytes == 11 << 20
    if url.startswith("s3:"):
        assert system.info(target)["ETag"].strip('"').endswith("-3")


def test_what_was_uploaded_is_not_uploaded_again(store, url, monkeypatch):
    """A second delivery leaves a large object alone, and brings one that has another size or is older than the file."""
    monkeypatch.setenv("RUNCARD_LARGE_ARTIFACT", "1kB")
    r = train(url)
    path = r.folder / "artifacts" / "deep" / "model.bin"
    path.write_bytes(b"w" * 2_000)
    os.utime(path, (time.time() - 60,) * 2)
    sink = objectstore.open_sink(url)
    sent = []
    bar = _upload.Bar
    monkeypatch.setattr(_upload, "Bar", lambda name, size: sent.append(name) or bar(name, size))
    for times in (1, 1):
        sink.finish(store.get(r.run_id))
        assert sent.count("model.bin") == times
    later = time.time() + 60
    os.utime(path, (later, later))
    sink.finish(store.get(r.run_id))
    assert sent.count("model.bin") == 2


@pytest.mark.parametrize("seen", ["terminal", "pipe", "tqdm"])
def test_the_bar_is_shown_on_a_free_terminal_alone(tmp_path, monkeypatch, seen):
    """On a terminal one line that is taken away again; nothing in a pipe, and nothing beside another bar."""
    stream = Terminal() if seen != "pipe" else io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    if seen == "tqdm":
        monkeypatch.setitem(sys.modules, "tqdm", types.SimpleNamespace(tqdm=types.SimpleNamespace(_instances={1})))
    bar = _upload.Bar("model\x1b.bin", 100)
    bar.relative_update(50)
    bar.close()
    if seen != "terminal":
        assert stream.getvalue() == ""
        return
    assert "[##########          ]  50 % of 0 MB  model?.bin" in stream.getvalue()
    assert stream.getvalue().endswith("\r\x1b[K")


def test_a_broken_terminal_breaks_no_upload(monkeypatch):
    """A standard error that raises at every call costs the bar, not the upload."""
    monkeypatch.setattr(sys, "stderr", None)
    _upload.Bar("a", 1).relative_update(1)

    class Broken:
        def isatty(self):
            return True

        def write(self, _):
            raise ValueError("closed")

    monkeypatch.setattr(sys, "stderr", Broken())
    bar = _upload.Bar("a", 1)
    bar.relative_update(1)
    bar.close()
