"""No credential reaches any sink, from any channel: the whole store and every record is searched for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import runcard
from runcard import RuncardWarning, log, open_store, run, tracked
from runcard.errors import RuncardError

TOKENS = {
    "github": "ghp_" + "a1B2c3D4e5F6" * 3,
    "openai": "sk-proj-" + "Ab12Cd34Ef56" * 4,
    "aws": "AKIA" + "ABCDEFGH12345678",
    "huggingface": "hf_" + "aBcDeFgHiJkLmNoPqRsTuVwXyZ01234567",
    "slack": "xoxb" + "-123456789012-1234567890123-AbCdEfGhIjKlMnOpQrStUvWx",
    "dsn": "pr1vateWord99",
}
SECRET = TOKENS["github"]


def assert_nowhere(root, secret, *records):
    """The secret is in no file below a folder, whatever its name, and in no record."""
    for path in Path(root).rglob("*"):
        assert secret not in str(path.relative_to(root)), path
        if path.is_file():
            assert secret.encode() not in path.read_bytes(), path
    for record in records:
        assert secret not in json.dumps(record.to_dict())
        assert secret not in repr(record)


def in_text(kind):
    """The secret as it stands in a text."""
    return f"postgresql://ana:{TOKENS['dsn']}@db/x" if kind == "dsn" else f"use {TOKENS[kind]} now"


def by_config(text):
    with run("r", config={"a": text, "deep": [{"b": text}], text: 1}) as r:
        r.log_config(later=text)


def by_name(text):
    with run(text, experiment=text, tags=[text], notes=text) as r:
        r.tag(text)
        r.note(text)


def by_metric(text):
    with run("r") as r:
        r.log({text: 1.0, f"train/{text}": 2.0})


def by_decision(text):
    with run("r", objective="loss", direction="minimize") as r:
        r.log(loss=1.0)
        r.keep(text)
        r.discard(text)


def by_expected(text):
    with pytest.raises(ValueError), run("r", expected=(ValueError,)):
        raise ValueError(text)


def by_exception(text):
    def fails():
        cause = KeyError(text)
        error = ValueError(text)
        error.add_note(text)
        raise error from cause

    with pytest.raises(ValueError), run("r"):
        fails()


def by_arguments(text):
    @tracked
    def train(data, *rest, **options):
        log(loss=1.0)
        return {"loss": 1.0, "where": text}

    train(text, text, option=text)


def by_artifact(text):
    with run("r") as r:
        r.log_artifact(__file__, text.replace("/", "_").replace(":", "_"))
        r.artifact_path(text.replace("/", "_").replace(":", "_")).write_bytes(b"x")


def by_input(text):
    folder = Path(os.environ["RUNCARD_DIR"]).parent / text.replace("/", "_")
    folder.mkdir()
    (folder / "data.csv").write_bytes(b"x")
    with run("r", inputs=[folder / "data.csv"]) as r:
        r.log_input(folder / "data.csv")
        r.log_artifact(folder / "data.csv", "data.csv", copy=False)


def by_sink_problem(text):
    def sink(_record):
        raise OSError(text)

    with pytest.warns(RuncardWarning), run("r", sinks=["+memory:seen", sink]):
        pass


CHANNELS = [
    by_config,
    by_name,
    by_metric,
    by_decision,
    by_expected,
    by_exception,
    by_arguments,
    by_artifact,
    by_input,
    by_sink_problem,
]


@pytest.mark.parametrize("kind", TOKENS)
@pytest.mark.parametrize("channel", CHANNELS, ids=lambda channel: channel.__name__)
def test_no_channel_lets_a_secret_through(store, monkeypatch, channel, kind):
    """By shape: the store's files and names, the sinks' records and the late record are free of it."""
    if kind == "dsn" and channel in (by_artifact, by_input):
        kind = "github"  # an URL is no file's name
    monkeypatch.setenv("RUNCARD_SINKS", "+memory:seen")
    channel(in_text(kind))
    records = [*open_store("memory:seen").runs(), *store.runs()]
    assert len(records) == 2
    assert_nowhere(store.root, TOKENS[kind], *records)


@pytest.mark.parametrize(
    "name", ["api_key", "hf_token", "openaiKey", "aws-secret-access-key", "password", "dbPassword"]
)
def test_a_secret_is_known_by_its_name(store, name):
    """By name: whatever shape the value has, in nested config, arguments and later keys."""
    secret = "correct horse battery"
    # this file, and so a patch of it, has the words in it
    with run("r", config={name: secret, "deep": [{name: secret}]}, capture=["-git"]) as r:
        r.log_config({f"other_{name}": secret})
    record = store.get(r.run_id)
    assert_nowhere(store.root, secret, record)
    assert record.losses["redacted"] >= 2


def test_what_only_looks_like_a_secrets_name_stays(store):
    """Hyperparameters are not eaten."""
    config = {"max_tokens": 512, "cls_token": "[CLS]", "pad_token_id": 0, "tokenizer": "bpe", "author_id": 7}
    with run("r", config=config) as r:
        r.log(num_tokens=3.0)
    record = store.get(r.run_id)
    assert (record.config, record.metrics, record.losses) == (config, {"num_tokens": 3.0}, {})


def test_argv_source_environment_console_and_diff(store, tmp_path):
    """A program with its secret on the command line, in its source, its variables, its output and its repository."""
    repository = tmp_path / f"of {SECRET}"
    repository.mkdir()
    git = ["git", "-c", "user.name=u", "-c", "user.email=u@example.org", "-C", str(repository)]
    subprocess.run([*git, "init", "-q"], check=True)
    (repository / "train.py").write_text("x = 1\n")
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-qm", "one"], check=True)
    subprocess.run([*git, "remote", "add", "origin", f"https://ana:{SECRET}@example.org/x.git"], check=True)
    (repository / "train.py").write_text(
        textwrap.dedent(f"""
        import sys
        from runcard import tracked
        KEY = "{SECRET}"
        @tracked(capture=["console"])
        def train(key="{SECRET}"):
            print("printing {SECRET}")
            print("{SECRET[:20]}", end="")
            print("{SECRET[20:]}")
            sys.stderr.write("{SECRET}\\n")
        train()
        """)
    )
    (repository / "untracked.py").write_text(f"TOKEN = '{SECRET}'\n")
    (repository / ".env").write_text(f"TOKEN={SECRET}\n")
    done = subprocess.run(
        [sys.executable, "train.py", "--token", SECRET, f"--url=https://u:{SECRET}@h/x"],
        cwd=repository,
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "GITHUB_TOKEN": SECRET,
            "MY_SETTING": SECRET,
            "CUDA_VISIBLE_DEVICES": "0",
            "SLURM_JOB_ID": "7",
            "SLURM_JOB_NAME": f"train {SECRET}",
        },
    )
    assert done.returncode == 0, done.stderr
    assert SECRET in done.stdout, "the program's own output is left alone"
    (record,) = store.runs()
    assert record.environment.git.patch or record.environment.git.dirty
    assert record.function.qualname == "train"
    assert_nowhere(store.root, SECRET, record)


def test_a_redactor_that_fails_lets_nothing_through(store, monkeypatch):
    """If finding secrets fails, the whole field is redacted, never written as it is."""
    from runcard import redact

    def broken(*_arguments, **_options):
        raise RuntimeError("the redactor is broken")

    for name in ("assignments", "locators", "shapes"):
        monkeypatch.setattr(redact, name, broken)
    with run("r", config={"a": in_text("github")}, notes=in_text("github"), capture=["-source"]):
        pass
    (record,) = store.runs()
    assert_nowhere(store.root, SECRET, record)


def test_a_strict_run_lets_nothing_through_either(store):
    """The message of a refused setting has no credentials, and neither has what strict raises."""
    runcard.configure(strict=True)
    with pytest.raises(RuncardError) as refused:
        runcard.configure(sinks=[f"nosuch://ana:{SECRET}@host/x"])
    assert SECRET not in str(refused.value)


def test_what_is_hidden_at_the_start_and_the_end_is_counted(store):
    """A secret in a tag, a note or an exception's text counts among the losses, as one in the config does."""
    token = "ghp_" + "a1B2" * 9
    with pytest.raises(ValueError, match="ghp_"), runcard.run("r", tags=[token], notes=f"with {token}"):
        raise ValueError(token)
    assert store.get("latest").losses["redacted"] >= 3
