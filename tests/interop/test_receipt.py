"""The receipt of an export: every statement is checked against the artifacts that it is about."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.command import environment
from support.data import pool_records, write_jsonl
from support.hub import hub
from support.stages import ENCODING, Tiny

from paydirt.core.config import parse
from paydirt.core.types import Message
from paydirt.data.encoding import Encoder, EncodingConfig
from paydirt.interop.export import export as run
from paydirt.replay import STAGES
from paydirt.selection.scores import Scores
from paydirt.stages import Workspace

NASTY = "</code></pre><script>alert(1)</script> ```` | pipes | # heading [link](http://x) <img src=x onerror=alert(2)>"


@pytest.fixture(scope="module")
def made(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export of a bm25 selection from a pool that holds markup, a leaked test item and an earlier dedup."""
    from paydirt.stages_data import DedupStage, run_dedup

    folder = tmp_path_factory.mktemp("receipt")
    space = Workspace(folder / "shared")
    records = pool_records()
    leaked = {"id": "leak", "source": "sums", **_talk("What is 30 plus 2?", "32")}
    nasty = {"id": "nasty", "source": "<b>sums|</b>", **_talk("What is 21 plus 5? 21 plus 5? 5?", NASTY)}
    twin = {
        "id": "twin",
        "source": "sums",
        **_talk(records[1]["messages"][0]["content"] * 3, "The very same words here."),
    }
    again = {**twin, "id": "twin-2"}
    write_jsonl(folder / "pool.jsonl", [*records, leaked, nasty, twin, again])
    pool = {"files": [str(folder / "pool.jsonl")]}
    clean = run_dedup(parse(DedupStage, {"pool": pool, "threshold": 0.9}), folder / "dedup", space)
    files = {"files": [str(f) for f in sorted((clean.path / "clean").glob("*.jsonl"))]}
    scores = tiny.score("bm25", folder / "scores", space, pool=files)
    chosen = tiny.select(scores, folder / "chosen", space, {"fraction": 1.0}, pool=files)
    return run(chosen.path, folder / "export", "mine", cache=folder / "shared").path


def _talk(question: str, answer: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


@pytest.fixture(scope="module")
def told(made: Path) -> dict[str, Any]:
    return json.loads((made / "receipt.json").read_text(encoding="utf-8"))["mine"]  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def rows(made: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (made / "mine.jsonl").read_text(encoding="utf-8").splitlines()]


def test_counts_add_up_by_source(told: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    assert sum(c["exported"] for c in told["sources"].values()) == told["rows"] == len(rows)
    assert all(c["exported"] <= c["pool"] for c in told["sources"].values())
    assert told["origin"]["methods"][0]["method"] == "bm25"


def test_nearest_references_are_those_of_the_scores(told: dict[str, Any]) -> None:
    scores = Scores(Path(told["origin"]["methods"][0]["scores"]))
    assert len(told["sample"]) == 6
    for one in told["sample"]:
        similar = scores.row(int((scores.ids == one["id"]).argmax()))
        shown = [n["influence"] for n in one["nearest"]]
        assert shown == pytest.approx(sorted(similar.tolist(), reverse=True)[: len(shown)], rel=1e-6)
        assert all(n["text"] for n in one["nearest"])


def test_masks_and_stop_tokens_are_proved_on_real_rows(
    told: dict[str, Any], rows: list[dict[str, Any]], tiny: Tiny
) -> None:
    """The counts are those of the encoder over all rows; the decoded stretches join to the whole and learn the answer."""
    from transformers import AutoTokenizer

    encoder = Encoder(AutoTokenizer.from_pretrained(tiny.model), EncodingConfig(**ENCODING))
    encoded = encoder.encode_batch([[Message(m["role"], m["content"]) for m in r["messages"]] for r in rows])
    checked = told["mask"]["checked"]
    assert checked["tokens learnt"] == sum(e.n_supervised for e in encoded)
    assert checked["stop tokens learnt"] == checked["answers"] - sum(e.truncated for e in encoded)
    cut, first = told["mask"]["decoded"]
    assert (cut["truncated"], cut["last_learnt"]) != (False, encoder.tokenizer.eos_token), (
        "the best one is cut, and shown so"
    )
    assert first["last_learnt"] == encoder.tokenizer.eos_token
    learnt = "".join(s["text"] for s in first["stretches"] if s["learnt"])
    answers = [
        m["content"] for m in next(r for r in rows if r["id"] == first["id"])["messages"] if m["role"] == "assistant"
    ]
    assert learnt.replace(encoder.tokenizer.eos_token, "") == "".join(a.strip() for a in answers)


def test_contamination_is_found_with_its_text(told: dict[str, Any]) -> None:
    found = {m["id"]: m for m in told["contamination"]["first"]}
    assert "leak" in found
    assert "30 plus 2" in found["leak"]["example_text"]
    assert "30 plus 2" in found["leak"]["item_text"]


def test_what_was_dropped_before_is_told(told: dict[str, Any]) -> None:
    (before,) = told["dropped"]["before"]
    assert before["stage"] == "dedup"
    removed = (Path(before["path"]) / "removed.jsonl").read_text(encoding="utf-8").splitlines()
    assert before["notes"]["removed"] == len(removed) > 20
    assert before["first"] == [json.loads(line) for line in removed[:20]]


def test_its_configs_make_the_same_selection_again(told: dict[str, Any], tmp_path: Path) -> None:
    replay = told["origin"]["replay"]
    space = Workspace(tmp_path / "shared")
    score = dict(replay["score 1"])
    cls, function = STAGES[score.pop("stage")]
    scored = function(parse(cls, score), tmp_path / "scores", space)
    values = {**replay["select"], "scores": str(scored.path)}
    cls, function = STAGES[values.pop("stage")]
    assert function(parse(cls, values), tmp_path / "chosen", space).fingerprint == told["origin"]["fingerprint"]


def test_the_ledger_is_that_of_scores_and_selection(told: dict[str, Any]) -> None:
    lines = told["cost"]["lines"]
    assert lines
    assert told["cost"]["seconds"] == pytest.approx(sum(line["seconds"] for line in lines))
    assert {Path(line["of"]).name for line in lines} <= {"scores", "chosen"}


def test_the_card_is_a_data_set_s_and_nothing_from_data_can_write_into_it(made: Path) -> None:
    import markdown_it

    text = (made / "README.md").read_text(encoding="utf-8")
    _, head, body = text.split("---\n", 2)
    assert yaml.safe_load(head)["configs"] == [{"config_name": "mine", "data_files": "mine.jsonl", "default": True}]
    html = markdown_it.MarkdownIt("commonmark", {"html": True}).enable("table").render(body)
    assert NASTY[:20] not in html, "it is there, but escaped"
    assert "&lt;script&gt;alert(1)" in html
    for tag in ("<script", "<img", "<b>", 'href="http://x"'):
        assert tag not in html
    assert html.count("<h2>") == 2, "no example makes a heading of its own"


def test_the_card_loads_as_a_data_set(made: Path, tmp_path: Path) -> None:
    from datasets import load_dataset

    loaded = load_dataset(str(made), "mine", split="train", cache_dir=str(tmp_path))
    assert set(loaded.column_names) == {"dataset", "id", "messages", "source", "score", "rank", "weight"}


PUSH = "import sys; from paydirt.cli import main; sys.argv = ['paydirt', *sys.argv[1:]]; main()"


def push(made: Path, chosen: str, **more: str) -> subprocess.CompletedProcess[str]:
    """`paydirt export ... --to-hub org/mine` in a process that is not offline, with a home of its own."""
    command = [
        sys.executable,
        "-c",
        PUSH,
        "export",
        chosen,
        "--name",
        "mine",
        "--out",
        str(made),
        "--to-hub",
        "org/mine",
    ]
    home = {"HF_HOME": str(made.parent / "home"), "HF_HUB_OFFLINE": "0", "PAYDIRT_CACHE": str(made.parent / "shared")}
    env = {k: v for k, v in environment(**home, **more).items() if k != "HF_TOKEN" or "HF_TOKEN" in more}
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)


def test_the_real_client_uploads_data_and_card(made: Path, told: dict[str, Any]) -> None:
    with hub() as server:
        done = push(made, told["origin"]["selection"], HF_ENDPOINT=server.url, HF_TOKEN=server.token)
        assert done.returncode == 0, done.stderr
        assert f"{server.url}/datasets/org/mine" in done.stdout
        assert server.repos["org/mine"]["visibility"] == "private"
        there = server.files["org/mine"]
        for name in ("README.md", "receipt.json", "mine.jsonl", "dataset_info.json", "trl.yaml", "chat_template.jinja"):
            assert there[name] == (made / name).read_bytes()
        assert "manifest.json" not in there


def test_a_refused_upload_says_why_and_leaves_the_export(made: Path, told: dict[str, Any]) -> None:
    before = (made / "README.md").read_bytes()
    with hub() as server:
        done = push(made, told["origin"]["selection"], HF_ENDPOINT=server.url, HF_TOKEN="hf_wrong")
    assert done.returncode == 2
    assert "--to-hub org/mine" in done.stderr
    assert "401" in done.stderr
    assert "Traceback" not in done.stderr
    assert (made / "README.md").read_bytes() == before
    assert os.listdir(made.parent)


# ---- gain over random ---------------------------------------------------------------------------------------------------


def test_random_at_equal_cost_is_read_off_its_own_curve() -> None:
    from paydirt.interop.gain import at_cost, interval

    curve = [{"total_flops": 1e3, "score": 0.2}, {"total_flops": 1e5, "score": 0.6}]
    assert at_cost(curve, 1e4, 0.0) == (pytest.approx(0.4), False), "half way in log FLOPs"
    assert at_cost(curve, 500, 0.1) == (pytest.approx(0.15), False), "from zero-shot to the cheapest, in FLOPs"
    assert at_cost(curve, 1e6, 0.0) == (0.6, True)
    assert at_cost([], 1e4, 0.0) is None
    low, high = interval([0.1, 0.2, 0.3])
    assert (low, high) == (pytest.approx(0.2 - 0.248414, abs=1e-5), pytest.approx(0.2 + 0.248414, abs=1e-5))
    assert interval([0.1, 0.2]) == (None, None)


def test_an_export_of_a_study_says_what_it_bought(tiny: Tiny, tmp_path: Path) -> None:
    """A real study of two methods, three fractions, three seeds: the gain is the mean of its own runs' differences."""
    import pyarrow.parquet as pq
    from support.stages import TRAINING

    from paydirt.interop.gain import at_cost
    from paydirt.study.recipe import Study
    from paydirt.study.run import run_study

    recipe = {
        "name": "gain", "pool": tiny.pool, "targets": [tiny.target], "model": tiny.model_config, "encoding": ENCODING,
        "methods": ["random", "bm25"], "fractions": [0.1, 0.5, 1.0], "seeds": [1, 2, 3], "training": TRAINING, "workers": 1,
    }  # fmt: skip
    run_study(parse(Study, recipe), tmp_path / "study")
    (chosen,) = (tmp_path / "study" / "selections" / "sums_and_capitals").glob("bm25-*0.5*")
    made = run(chosen, tmp_path / "export", "half", cache=tmp_path / "study" / "shared")
    gain = json.loads((made.path / "receipt.json").read_text())["half"]["gain"]
    rows = pq.read_table(tmp_path / "study" / "results.parquet").to_pylist()
    zero = next(r["score"] for r in rows if r["method"] == "zero-shot")
    gaps = []
    for row in rows:
        if row["method"] == "bm25" and row["fraction"] == 0.5:
            control = [r for r in rows if r["method"] == "random" and r["seed"] == row["seed"]]
            expected = at_cost(control, row["total_flops"], zero)
            assert expected is not None
            gaps.append(row["score"] - expected[0])
    assert len(gaps) == 3
    assert gain["gain"] == pytest.approx(sum(gaps) / 3)
    assert gain["low"] <= gain["gain"] <= gain["high"]
    assert "over random data at the same total" in (made.path / "README.md").read_text()
