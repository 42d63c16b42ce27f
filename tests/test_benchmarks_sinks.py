"""The benchmark of the sinks: that it measures what its table says, and says what there is not."""

from __future__ import annotations

from benchmarks import sinks


def test_a_sink_is_measured_beside_the_drivers_own(capsys, tmp_path):
    """With few runs and steps, SQLite's row has a number in every column, and the file is what was printed."""
    target = tmp_path / "table.md"
    assert sinks.main(["--only", "sqlite", "--runs", "1", "--steps", "5", "--rounds", "1", "--write", str(target)]) == 0
    (row,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| sqlite")]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert len(cells) == 9
    assert all(any(letter.isdigit() for letter in cell) for cell in cells[1:])
    assert row in target.read_text()


def test_a_row_that_has_no_peer_or_no_dead_end_says_so():
    """What there is not is a dash; points a second are those of the steps."""
    found = sinks.Result({"run_s": 0.0015, "step_s": 0.0003}, {"run_s": 0.001, "step_s": None}, None, None)
    listed = {"sqlite": {"listed_s": 0.1, "sorted_s": 0.002, "where_s": 0.003, "ranked_s": 0.2, "first_s": 0.001}}
    text = sinks.table({"wandb": found}, 1, 2, (10, 1.25, 0.5), (7, listed))
    assert "| sqlite | 100.0 ms | 2.0 ms | 3.0 ms | 200.0 ms | 1.0 ms |" in text
    assert "| 1.5 ms | 1.0 ms | 300.0 µs | \u2013 | 10,000 | \u2013 | \u2013 | \u2013 |" in text
    assert "of 10 runs: 1.2 s" in text
    assert "0.5 s." in text
