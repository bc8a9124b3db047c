"""The boundary of the command: what a file or argument causes is one line and status 2; Ctrl-C is one line and 130."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.command import environment
from support.models import byte_tokenizer, save, tiny_llama
from support.stages import Tiny

from paydirt import cli
from paydirt.stages import Workspace


def flip(path: Path) -> None:
    """Other bytes of the same size: what only the contents betray."""
    data = bytearray(path.read_bytes())
    for i in range(len(data) // 4, 3 * len(data) // 4):
        data[i] ^= 0x5A
    path.write_bytes(bytes(data))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def rewrite(text: str) -> Callable[[Path], None]:
    """Other text, padded or cut to the size it had, so that sizes do not betray it."""

    def damage(path: Path) -> None:
        size = path.stat().st_size
        path.write_text(text.ljust(size)[: max(size, len(text))])

    return damage


def other_columns(path: Path) -> None:
    pq.write_table(pa.table({"name": ["x"] * 60}), path)


@pytest.fixture
def work(tiny: Tiny, tmp_path: Path) -> Path:
    """Finished scores, a selection of them, a model trained on it and its evaluation."""
    workspace = Workspace(tmp_path / "cache")
    scores = tiny.score("bm25", tmp_path / "scores", workspace)
    chosen = tiny.select(scores, tmp_path / "selection", workspace, {"count": 6})
    trained = tiny.train(tmp_path / "trained", workspace, selection=str(chosen.path))
    tiny.evaluate(tmp_path / "evaluation", workspace, model={"path": str(trained.path / "model"), "device": "cpu"})
    return tmp_path


SELECT = ("select", "{work}/scores", "--count", 3, "--out", "{work}/o", "--cache", "{work}/cache")
EXPORT = ("export", "{work}/selection", "--name", "x", "--out", "{work}/o", "--cache", "{work}/cache")
EVALUATE = (
    *("evaluate", "{work}/trained/model", "--target", "t", "--references", "{data}/references.jsonl"),
    *("--test", "{data}/test.jsonl", "--out", "{work}/o", "--cache", "{work}/cache"),
)
TRAIN = ("run", "{work}/trained/config.yaml", "--out", "{work}/o", "--cache", "{work}/cache")
INSPECT = tuple(("inspect", f"{{work}}/{name}") for name in ("scores", "selection", "trained", "evaluation"))


class TestDamage:
    @pytest.mark.parametrize(
        ("file", "damage", "command"),
        [
            ("scores/rows.parquet", flip, SELECT),
            ("scores/rows.parquet", cut, SELECT),
            ("scores/rows.parquet", other_columns, SELECT),
            ("scores/rows.parquet", Path.unlink, SELECT),
            ("scores/values/00000.npy", cut, SELECT),
            ("scores/values/00000.npy", rewrite("not an array"), SELECT),
            ("scores/columns.json", rewrite("{"), SELECT),
            ("scores/columns.json", rewrite("{}"), SELECT),
            (
                "scores/columns.json",
                rewrite('{"columns": [1], "pairwise": 0, "shard_rows": 1, "reduction": {}}'),
                SELECT,
            ),
            ("scores/columns.json", rewrite("[1]"), SELECT),
            ("scores/manifest.json", rewrite("{}"), SELECT),
            ("scores/manifest.json", cut, SELECT),
            ("scores/ledger.jsonl", rewrite("[1, 2]"), INSPECT[0]),
            ("scores/ledger.jsonl", rewrite('{"stage": "score", "seconds": "long"}'), INSPECT[0]),
            ("scores/ledger.jsonl", rewrite('{"what": 1}'), INSPECT[0]),
            ("trained/ledger.jsonl", rewrite("{"), INSPECT[2]),
            ("scores/columns.json", cut, INSPECT[0]),
            ("selection/selection.json", rewrite("{}"), EXPORT),
            ("selection/selection.json", rewrite('{"ids": [1, 2]}'), EXPORT),
            ("selection/selection.json", rewrite('{"ids": [1, 2]}'), TRAIN),
            ("selection/selection.json", cut, TRAIN),
            ("evaluation/result.json", cut, INSPECT[3]),
        ],
        ids=lambda v: getattr(v, "__name__", str(v)[:30]),
    )
    def test_is_named_with_the_command_that_makes_it_again(
        self, paydirt: Any, work: Path, tiny: Tiny, file: str, damage: Callable, command: tuple
    ) -> None:
        damage(work / file)
        code, shown, said = paydirt(*(str(a).format(work=work, data=tiny.root) for a in command))
        text = re.sub(r"\s+", " ", shown + said)
        assert code == 2, text
        assert "Traceback" not in text
        artifact = work / file.split("/")[0]
        assert f"{artifact}: damaged: " in text
        found = re.search(r"make it again: paydirt (run \S+/config.yaml --out \S+ --force)", text)
        assert found, text
        assert paydirt(*found[1].split(), "--cache", work / "cache")[0] == 0
        assert paydirt(*(str(a).format(work=work, data=tiny.root) for a in command))[0] == 0

    @pytest.mark.parametrize("where", ["before", "inspect"])
    def test_of_contents_alone_is_found_by_verifying(self, paydirt: Any, work: Path, where: str) -> None:
        path = work / "scores" / "values" / "00000.npy"
        data = bytearray(path.read_bytes())
        data[-3] ^= 1  # one bit of one score
        path.write_bytes(bytes(data))
        command = [str(a).format(work=work) for a in SELECT]
        assert paydirt(*command)[0] == 0
        if where == "inspect":
            assert paydirt("inspect", work / "scores")[0] == 0
            code, _, said = paydirt("inspect", work / "scores", "--verify")
        else:
            code, _, said = paydirt("--verify", *command[:-1], work / "cache")
        assert code == 2
        assert "00000.npy has other contents than were written; make it again" in " ".join(said.split())

    def test_doctor_checks_every_byte_of_an_artifact(self, paydirt: Any, work: Path) -> None:
        code, shown, said = paydirt("doctor", work / "scores")
        assert code == 0, said
        assert "every byte is as it was written" in " ".join(shown.split())
        flip(work / "scores" / "values" / "00000.npy")
        code, _, said = paydirt("doctor", work / "scores")
        assert code == 2
        assert "has other contents than were written" in " ".join(said.split())

    @pytest.mark.parametrize(
        ("file", "damage"),
        [
            ("model.safetensors", cut),
            ("model.safetensors", rewrite("x")),
            ("config.json", rewrite('{"model_type": 3}')),
            ("config.json", rewrite("[]")),
            ("config.json", rewrite('{"model_type": "llama", "hidden_size": "wide"}')),
            ("config.json", cut),
            ("tokenizer.json", cut),
            ("tokenizer.json", rewrite("{}")),
        ],
        ids=lambda v: getattr(v, "__name__", str(v)[:30]),
    )
    def test_of_a_model_that_is_no_artifact(
        self, paydirt: Any, tiny: Tiny, tmp_path: Path, file: str, damage: Callable
    ) -> None:
        model = save(tiny_llama(), byte_tokenizer(), tmp_path / "m")
        damage(model / file)
        code, _, said = paydirt(
            *("evaluate", model, "--target", "t", "--references", tiny.root / "references.jsonl"),
            *("--test", tiny.root / "test.jsonl", "--out", tmp_path / "o", "--cache", tmp_path / "cache"),
        )
        assert code == 2, said
        assert f"{model}: no " in said
        assert "could be loaded" in said

    @pytest.mark.parametrize("damage", [cut, other_columns, flip])
    def test_of_a_results_table(self, paydirt: Any, tmp_path: Path, damage: Callable) -> None:
        row = {"task": "t", "method": "m", "metric": "x", "fraction": 0.1, "seed": 1, "score": 0.5}
        pq.write_table(pa.Table.from_pylist([row] * 50), tmp_path / "results.parquet")
        damage(tmp_path / "results.parquet")
        code, _, said = paydirt("inspect", tmp_path)
        assert code == 2, said
        assert "results.parquet: " in said
        assert "run the study again: paydirt run" in said


class TestRecipes:
    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("stage: [score]", "stage: expected the name of a stage, found list"),
            ("stage: {a: 1}", "stage: expected the name of a stage, found dict"),
            ("stage: 3", "stage: expected the name of a stage, found int"),
            ("name: " + "[" * 5000 + "]" * 5000, "nested too deeply"),
            ("name: " + "{a: " * 300 + "1" + "}" * 300, "name"),
            ("when: 2001-99-99", "does not fit its YAML tag .month must be in 1..12.; put it in quotes"),
            ("when: 2001-01-01", "when: '2001-01-01' is read as a date; put it in quotes"),
            ("name: !!int x", "does not fit its YAML tag"),
            ("name: !!python/object:os.system x", "not valid YAML"),
            ("name: !!timestamp x", "does not fit its YAML tag"),
            ("name: !!set {a, b}", "name"),
            ("name: !!binary x", "not valid YAML|cannot be read|name"),
            ("1: 2", "the key 1 is of type int; put it in quotes"),
            ("? [a, b]\n: 2", "not valid YAML|is no text"),
            ("fractions: [.inf]", "fractions.0"),
            ("fractions: [.nan]", "fractions.0"),
            (f"workers: 1{'0' * 5000}", "does not fit its YAML tag|workers"),
            (f"seeds: [1{'0' * 400}]", "missing key"),
        ],
        ids=lambda v: str(v)[:24],
    )
    def test_that_no_reader_expects(self, paydirt: Any, tmp_path: Path, text: str, message: str) -> None:
        (tmp_path / "r.yaml").write_text(text + "\n")
        code, shown, said = paydirt("run", tmp_path / "r.yaml", "--out", tmp_path / "o")
        assert code == 2, said
        assert "Traceback" not in shown + said
        assert "r.yaml" in said
        assert re.search(message, said), said


@pytest.mark.parametrize(
    "arguments",
    [
        ("split", "--points", "inf"),
        ("split", "--points", "nan"),
        ("split", "--points", "1e308"),
        ("split", "--points", "5e-324"),
        ("split", "--points", "-1"),
        ("split", "--seed", "-1"),
        ("dedup", "--threshold", "nan"),
        ("dedup", "--ngram", "0"),
        ("tiny", "--layers", "0"),
        ("tiny", "--hidden", "-1"),
        ("tiny", "--hidden", "7"),
        ("tiny", "--vocabulary", "99999999999"),
        ("tiny", "--steps", "-1"),
        ("tiny", "--seed", "-5"),
        ("decontaminate", "--ngram", "0", "--references", "{data}/references.jsonl"),
        ("decontaminate", "--near", "nan", "--references", "{data}/references.jsonl"),
    ],
    ids=lambda v: " ".join(v[:3]),
)
def test_arguments_beyond_reason(paydirt: Any, tiny: Tiny, tmp_path: Path, arguments: tuple) -> None:
    given = [a.format(data=tiny.root) for a in arguments]
    code, shown, said = paydirt(
        *given, "--pool", tiny.root / "pool.jsonl", "--out", tmp_path / "o", "--cache", tmp_path / "cache"
    )
    assert code == 2, said
    assert "Traceback" not in shown + said


class TestWhatIsNotThePersonsDoing:
    def test_says_so_and_shows_the_traceback_when_asked(
        self, paydirt: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """A fault of ours is neither hidden behind a user's error nor spilt over the screen."""

        def broken(*given: Any) -> list[str]:
            return {}["nothing"]

        monkeypatch.setattr("paydirt.inspect.describe", broken)
        code, _, said = paydirt("inspect", tmp_path)
        assert code == 1
        assert "Traceback" not in said
        assert "unexpected KeyError: 'nothing'; run it again with --debug" in said
        for command in (("inspect", tmp_path, "--debug"), ("--debug", "inspect", tmp_path)):
            code, _, said = paydirt(*command)
            assert code == 1
            assert "Traceback" in said
            assert "in broken" in said

    def test_a_librarys_words_are_given_as_its_own(
        self, paydirt: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        def broken(*given: Any) -> list[str]:
            return json.loads("{")

        monkeypatch.setattr("paydirt.inspect.describe", broken)
        code, _, said = paydirt("inspect", tmp_path)
        assert code == 2
        assert "(said by json; --debug shows where)" in said


IMPORTING = """
import sys, time
class Slow:
    def find_spec(self, name, path=None, target=None):
        if name == "typer":
            print("importing", flush=True)
            time.sleep(30)
sys.meta_path.insert(0, Slow())
sys.argv = ["paydirt", "methods"]
from paydirt.entry import main
main()
"""
LAZILY = """
import sys, time
class Slow:
    def find_spec(self, name, path=None, target=None):
        if name == "paydirt.inspect":
            print("importing", flush=True)
            time.sleep(30)
sys.meta_path.insert(0, Slow())
sys.argv = ["paydirt", "inspect", "x"]
from paydirt.entry import main
main()
"""
WORKING = """
import sys, time
from paydirt.core import boundary
def work():
    print("working", flush=True)
    time.sleep(30)
boundary.guarded(work)
"""
WORKERS = """
import time
from paydirt.core import boundary
from paydirt.execution.local import Local
def slow(task):
    print("task", task, flush=True)
    time.sleep(30)
if __name__ == "__main__":
    boundary.guarded(lambda: Local(2).map(slow, [1, 2], "tasks"))
"""


@pytest.mark.parametrize(
    "code", [IMPORTING, LAZILY, WORKING, WORKERS], ids=["importing", "lazily", "working", "workers"]
)
def test_an_interrupt_is_one_line_and_130(code: str, tmp_path: Path) -> None:
    """From the first moment on, to the whole group as a terminal sends it, and no worker lives on."""
    (tmp_path / "script.py").write_text(code)
    process = subprocess.Popen(
        [sys.executable, tmp_path / "script.py"], env=environment(), text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline()
    started = time.time()
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 130, said
    assert time.time() - started < 10
    assert said.startswith("interrupted")
    assert len(said.splitlines()) == 1, said
    time.sleep(0.5)
    assert not alive(process.pid)


def alive(group: int) -> list[str]:
    """Command lines of a process group's members, but for zombies that wait to be collected."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, member = stat.read_text().rsplit(") ", 1)[1].split()[:3]
            if int(member) == group and state != "Z":
                found.append((stat.parent / "cmdline").read_text().replace("\0", " "))
        except OSError:  # it has ended meanwhile
            continue
    return found


def test_starting_takes_nothing_heavy_before_interrupts_are_heard() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import sys, paydirt.entry; print(len(sys.modules))"],
        capture_output=True, text=True, env=environment(), check=True,
    )  # fmt: skip
    bare = subprocess.run([sys.executable, "-c", "import sys; print(len(sys.modules))"], capture_output=True, text=True,
                          env=environment(), check=True)  # fmt: skip
    assert int(done.stdout) - int(bare.stdout) < 60
    assert cli.main.__doc__
