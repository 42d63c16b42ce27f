"""docs/format.md and its schemas say what is in a run's folder: no field more, none less."""

from __future__ import annotations

import argparse
import asyncio
import json
import re
from pathlib import Path

import jsonschema
import psutil
import pytest

from runcard import artifact_path, discard, log, log_config, log_input, note, run, tag, tracked
from runcard.capture import host, seeds, system
from runcard.events import __doc__ as events_doc
from runcard.journal import decode, encode

DOCS = Path(__file__).parents[1] / "docs"
FORMAT = (DOCS / "format.md").read_text("utf-8")


def _schema(name: str) -> jsonschema.Draft202012Validator:
    schema = json.loads((DOCS / "schema" / f"{name}.schema.json").read_text("utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.fixture
def runs(store, tmp_path):
    """One store with a run of each kind."""
    data = tmp_path / "data.csv"
    data.write_text("x\n1\n")

    @tracked(objective="loss", direction="minimize", tags=["a"], notes="n", seed=3)
    def train(path, nested, odd=frozenset({2, 1})):
        for step in range(3):
            log({"loss": 1.0 - step, "nan": float("nan")}, step=step)
        log(big=2**80, bad="no number")
        log_config(late=(1, 2))
        log_input(path)
        note("said")
        tag("b")
        artifact_path("folder/file.txt").write_text("x")
        with run("child", config={"x": 1}):
            log(child=1)
        return {"loss": 0.1, "kind": "linear"}

    @tracked(expected=ValueError)
    def fails(how):
        if how == "group":
            raise ExceptionGroup("several", [ValueError("one"), TypeError("two")])
        raise how

    @tracked
    def main(config):
        return "Bearer aBcDeFgHiJ0123456789"

    main(argparse.Namespace(lr=0.1))
    with pytest.warns(match="no number"):
        train(data, {"list": [1, {"$x": 1j}], "deep": [[[[[[[[[1]]]]]]]]]})
    for how in ("group", ValueError("pruned"), SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError()):
        with pytest.raises((Exception, SystemExit, KeyboardInterrupt, asyncio.CancelledError)):
            fails(how)
    with run(auto_decide=True, objective="x", direction="maximize", capture=["system"]) as r:
        r.log(x=1)
        discard("not now")
    store.keep(r.run_id, "now")
    store.amend(r.run_id, {"x": 2}, "counted wrong")
    store.rename(r.run_id, "other")
    store.tag(r.run_id, "late", remove=["a"])
    return store.runs()


def test_every_record_is_as_the_schema_says(runs):
    """Records of every kind of end hold to record.schema.json, and `record.json` is what `to_dict` gives."""
    schema = _schema("record")
    assert len(runs) == 9
    for record in runs:
        data = json.loads((Path(record.folder) / "record.json").read_text("utf-8"))
        assert [f"{list(error.path)} {error.message}" for error in schema.iter_errors(data)] == []
        assert data == json.loads(json.dumps(record.to_dict()))


def test_no_field_of_a_record_is_left_undescribed(runs):
    """The fields of a record and of its environment are those of the schema, and format.md names each."""
    schema = _schema("record").schema
    for record in runs:
        data = record.to_dict()
        assert set(data) == set(schema["properties"])
        assert set(data["environment"]) <= set(schema["$defs"]["environment"]["properties"])
        for part in ("function", "error", "resources"):
            assert set(data[part] or ()) <= set(schema["$defs"][part]["properties"]), part
    words = set(re.findall(r"\w+", FORMAT))
    assert set(schema["properties"]) <= words
    for part in schema["$defs"].values():
        assert set(part.get("properties", ())) <= words


def test_identifiers_samples_and_generators_are_described():
    """What launchers say of a process, what is sampled, and what is noted of seeds is named in format.md."""
    identifiers = {key for names in (*host._LAUNCHERS.values(), *host._MPI.values()) for key in names}
    samples = set(system.sample(psutil.Process()))
    told = {"seed": seeds.seed_all(3), **seeds.state()}
    noted = {key for each in told.values() if isinstance(each, dict) for key in each} | set(told)
    words = set(re.findall(r"[\w/]+", FORMAT))
    assert identifiers | samples | {key for key in noted if not key.isupper()} <= words


def test_every_event_is_as_the_schema_says(runs):
    """Each line of each journal holds to event.schema.json, and has no field that the schema does not know."""
    schema = _schema("event")
    fields = {
        branch["if"]["properties"]["kind"]["const"]: branch["then"].get("properties")
        for branch in schema.schema["allOf"]
    }
    seen = set()
    for record in runs:
        for path in Path(record.folder).glob("journal*.jsonl"):
            for line in path.read_text("utf-8").splitlines():
                event = json.loads(line)
                assert [error.message for error in schema.iter_errors(event)] == []
                if "log" in event:
                    seen.add("short")
                    continue
                seen.add(event["kind"])
                known = fields[event["kind"]]
                if known is not None:
                    assert set(event) - {"crc", "n", "kind", "t", "losses"} <= set(known), event["kind"]
    assert seen >= {"start", "short", "config", "artifact", "input", "tag", "note", "decision", "amend", "name", "end"}


def test_every_kind_of_event_is_described():
    """The kinds that events.py lists, the schema's and format.md's are the same."""
    listed = set(re.findall(r"^(\w+) {2,}[\w`]", events_doc, re.MULTILINE))
    branches = _schema("event").schema["allOf"]
    told = set(
        re.findall(r"^\| `(\w+)` \| ", FORMAT.partition("## Events")[2].partition("## The record")[0], re.MULTILINE)
    )
    assert listed == {branch["if"]["properties"]["kind"]["const"] for branch in branches} == told


def test_the_checksum_is_computed_as_described(runs):
    """The CRC-32 of the list of a log's short form, else of an opening brace and the rest of the line."""
    from zlib import crc32

    short = 0
    for record in runs:
        for line in (Path(record.folder) / "journal.jsonl").read_bytes().splitlines():
            head, _, rest = line.partition(b",")
            told = int(head.removeprefix(b'{"crc":"').removesuffix(b'"'), 16)
            if rest.startswith(b'"log":'):
                short += 1
                assert told == crc32(rest.removeprefix(b'"log":').removesuffix(b"}"))
            else:
                assert told == crc32(b"{" + rest)
    assert short


def test_the_lines_that_are_shown_are_lines():
    """What format.md shows of a journal, a reader takes, and both forms of an event are told the same."""
    shown = [line.encode() for line in re.findall(r'^\{"crc".*$', FORMAT, re.MULTILINE)]
    long, short = map(decode, shown)
    assert (long["kind"], long["n"], long["add"]) == ("tag", 4, ["baseline"])
    assert short == {"n": 5, "kind": "log", "t": 1764000000.5, "step": 3, "metrics": {"loss": 0.5}}
    assert decode(encode(short)) == short


def test_the_config_hash_is_computed_as_described(runs):
    """Anyone can compute `config_hash` from `config.json`, with the standard library."""
    from hashlib import sha256

    checked = 0
    for record in runs:
        path = Path(record.folder) / "config.json"
        if record.config_hash is not None and path.exists():
            config = json.loads(path.read_text("utf-8"))
            text = json.dumps(config, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
            assert sha256(text.encode()).hexdigest() == record.config_hash
            checked += 1
    assert checked


def test_every_mark_is_described():
    """The marks that values.py and its parts write are in format.md, each one."""
    source = Path(__file__).parents[1] / "src" / "runcard"
    code = "".join(path.read_text("utf-8") for path in source.glob("_values*.py")) + (source / "values.py").read_text(
        "utf-8"
    )
    marks = set(re.findall(r'"(\$[a-z_]+)"', code))
    assert "$array" in marks
    assert [mark for mark in sorted(marks) if f'"{mark}"' not in FORMAT] == []
