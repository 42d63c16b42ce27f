"""The HTML that notebooks show."""

from __future__ import annotations

from html.parser import HTMLParser

from records import record, with_history

from runcard import run
from runcard.record import Status

HOSTILE = "<script>alert(1)</script><img src=x onerror=y>\"'&\x1b[31m"


class _Checked(HTMLParser):
    """Collects tags and attributes, and holds that every tag is closed."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.open = [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]
        self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_a_record_shows_what_matters():
    """Id, name, status, verdict, metrics with their course, settings and files are in the HTML."""
    made = with_history(
        "loss",
        [3.0, 2.0, 1.0],
        decision="keep",
        decision_reason="good",
        config={"lr": 0.1},
        artifacts=[{"path": "m.pt"}],
    )
    html = made._repr_html_()
    for part in (made.short_id, "train", "finished", "KEEP", "good", "loss", "█▅▁", "lr", "0.1", "m.pt"):
        assert part in html, part


def test_nothing_in_a_record_becomes_markup():
    """Hostile names, values, reasons, errors and paths are escaped; nothing runs, nothing is loaded."""
    made = with_history(
        HOSTILE,
        [1.0, 2.0],
        name=HOSTILE,
        experiment=HOSTILE,
        status=Status.FAILED,
        decision="keep",
        decision_reason=HOSTILE,
        config={HOSTILE: HOSTILE},
        error={"type": HOSTILE, "message": HOSTILE, "traceback": HOSTILE, "frame": {"file": HOSTILE, "text": HOSTILE}},
        artifacts=[{"path": HOSTILE, "bytes": 1}],
        user=HOSTILE,
    )
    found = _Checked(made._repr_html_())
    assert set(found.tags) <= {"div", "span", "b", "em", "code", "table", "tr", "td", "details", "summary", "pre"}
    assert set(found.attributes) <= {"style", "open"}
    assert "\x1b" not in made._repr_html_()


def test_an_open_run_shows_its_record_so_far():
    """A run in a notebook's cell shows its metrics and settings while it goes on, and its end afterwards."""
    with run("cell", config={"lr": 0.5}) as current:
        current.log(loss=2.0)
        html = current._repr_html_()
        assert "running" in html
        assert "loss" in html
        assert "0.5" in html
    assert "finished" in current._repr_html_()


def test_a_run_that_has_not_begun_has_html():
    """Before the start there is a name and nothing else."""
    html = run("later")._repr_html_()
    assert "later" in html
    assert "new" in html


def test_a_run_whose_journal_is_gone_has_html(tmp_path):
    """A run whose folder was removed shows what it knows by itself."""
    import shutil

    with run("cell") as current:
        pass
    shutil.rmtree(current.folder)
    assert "cell" in current._repr_html_()


def test_a_bare_record_has_html():
    """A record with nothing in it is no error."""
    assert "crashed" in record(name="", status=Status.CRASHED, started_at=None)._repr_html_()
