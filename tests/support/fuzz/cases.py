"""What is thrown at the command: one function a kind, each writing bad files into a folder and returning arguments.

Every draw comes from one `Random`, so that (kind, number) names a case for ever.
"""

from __future__ import annotations

import csv
import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import yaml

from support import data
from support.fuzz import mutate
from support.fuzz.ground import ENCODING, TRAINING, Ground, copy_run, recipe

WITHOUT_OUT = {"fit", "advise", "cost", "inspect", "doctor", "methods"}
Case = Callable[[Ground, Random, Path], list[str]]


def forms(record: dict[str, Any]) -> list[dict[str, Any]]:
    """One conversation in the forms that people have."""
    turns = [m["content"] for m in record["messages"] if m["role"] != "system"]
    talk = [{"from": "human" if i % 2 == 0 else "gpt", "value": text} for i, text in enumerate(turns)]
    return [
        record,
        {"instruction": turns[0], "input": "", "output": turns[1]},
        {"conversations": talk},
        {"prompt": turns[0], "completion": turns[1]},
        {"question": turns[0], "answer": turns[1]},
        {"query": turns[0], "response": turns[1]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": turns[0]}]}, *record["messages"][-1:]]},
    ]


def bad_records(random: Random) -> list[Any]:
    which = random.randrange(7)
    rows: list[Any] = [forms(record)[which] for record in random.sample(data.pool_records(), 12)]
    for _ in range(random.choice([0, 1, 1, 2, 6])):
        at = random.randrange(len(rows))
        rows[at] = mutate.mutated(rows[at], random)
    return rows


def write_pool(rows: list[Any], random: Random, folder: Path) -> Path:
    """The records in one of the file types, then perhaps damaged as bytes."""
    kind = random.choice(["jsonl", "jsonl", "jsonl", "json", "csv", "parquet", "jsonl.gz", "tsv", "txt"])
    path = folder / f"pool.{kind}"
    lines = "".join(mutate.dump(row) + "\n" for row in rows).encode()
    flat = [
        {str(k): v if isinstance(v, str) else mutate.dump(v) for k, v in row.items()}
        for row in rows
        if isinstance(row, dict)
    ]
    if kind == "json":
        path.write_text(mutate.dump(rows if random.random() < 0.7 else {"data": rows, "version": 1}))
    elif kind in ("csv", "tsv") and flat:
        with open(path, "w", newline="", encoding="utf-8", errors="surrogatepass") as handle:
            writer = csv.DictWriter(
                handle,
                list({k: 0 for row in flat for k in row}),
                delimiter="\t" if kind == "tsv" else ",",
                escapechar="\\",
            )
            writer.writeheader()
            writer.writerows(flat)
    elif kind == "parquet" and flat:
        try:
            pyarrow.parquet.write_table(pa.Table.from_pylist(flat), path)
        except (pa.ArrowException, UnicodeEncodeError, TypeError):
            path.write_bytes(b"PAR1")
    elif kind == "jsonl.gz":
        path.write_bytes(gzip.compress(lines))
    else:
        path.write_bytes(lines)
    if random.random() < 0.35:
        path.write_bytes(mutate.damaged(path.read_bytes(), random))
    return path


def _flat(row: dict[Any, Any]) -> dict[str, str]:
    return {str(k): v if isinstance(v, str) else mutate.dump(v) for k, v in row.items()}


def pools(ground: Ground, random: Random, folder: Path) -> list[str]:
    path = write_pool(bad_records(random), random, folder)
    verb = random.choice(["inspect", "random", "random", "bm25", "dedup", "split", "decontaminate"])
    bad = ["--on-bad", "skip"] if random.random() < 0.5 else []
    if verb == "inspect":
        return ["inspect", str(path)]
    base = ["--pool", str(path), "--out", str(folder / "out")]
    if verb in ("random", "bm25"):
        return ["score", verb, *base, *ground.target, *bad]
    if verb == "decontaminate":
        return [verb, *base, "--references", str(ground.root / "references.jsonl")]
    return [verb, *base]


def targets(ground: Ground, random: Random, folder: Path) -> list[str]:
    base = ["score", "bm25", "--pool", ground.pool, "--out", str(folder / "out")]
    if random.random() < 0.4:
        rows: list[Any] = data.reference_records()
        for _ in range(random.choice([1, 2])):
            at = random.randrange(len(rows))
            rows[at] = mutate.mutated(rows[at], random)
        path = folder / "references.jsonl"
        path.write_text("".join(mutate.dump(row) + "\n" for row in rows))
        return [*base, "--target", random.choice(["t", "mmlu", "\x00", "", "a/b"]), "--references", str(path)]
    layout = Path(shutil.copytree(ground.root / "less", folder / "less"))
    name = random.choice(["mmlu", "bbh", "tydiqa", "ifeval"])
    files = sorted(p for p in (layout / "eval" / name).rglob("*") if p.is_file())
    chosen = random.choice(files)
    if random.random() < 0.1:
        chosen.unlink()
    else:
        mutate.damage_file(chosen, random)
    if random.random() < 0.3:
        return [
            "decontaminate",
            "--pool",
            ground.pool,
            "--against",
            name,
            "--data",
            str(layout),
            "--out",
            str(folder / "out"),
        ]
    return [*base, "--target", name, "--data", str(layout)]


def recipes(ground: Ground, random: Random, folder: Path) -> list[str]:
    values: Any = recipe(ground)
    if random.random() < 0.3:
        kind = random.choice(["random", "selection", "evaluation", "dedup", "split"])
        config = ground.run(kind) / "config.yaml"
        values = yaml.safe_load(config.read_text()) if config.exists() else values
    for _ in range(random.choice([1, 1, 2])):
        values = mutate.mutated(values, random)
    try:
        text = yaml.safe_dump(values, allow_unicode=True)
    except (yaml.YAMLError, RecursionError):
        text = mutate.dump(values)
    if random.random() < 0.3:
        lines = text.splitlines() or [""]
        at = random.randrange(len(lines))
        key = lines[at].split(":")[0] if ":" in lines[at] else "name"
        lines[at] = f"{key}: {random.choice(mutate.YAML_LINES)}"
        text = "\n".join(lines)
    path = folder / "recipe.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    if random.random() < 0.1:
        path.write_bytes(mutate.damaged(path.read_bytes(), random))
    return ["run", str(path), "--dry-run", "--out", str(folder / "out")]


def commands(ground: Ground) -> dict[str, list[str]]:
    """A good command line of every verb whose arguments are fuzzed."""
    root = ground.root
    scoring = ["--pool", ground.pool, *ground.target, *ENCODING, "--model", str(root / "model")]
    published = [part for s in ("sums", "chat") for part in ("--pool", f"{s}={root / 'published' / s}.jsonl")]
    table = str(ground.run("study") / "results.parquet")
    return {
        "score random": ["score", "random", *scoring],
        "score bm25": ["score", "bm25", *scoring],
        "score length": ["score", "length", *scoring],
        "score ppl": ["score", "ppl", *scoring, "--tune-epochs", "0"],
        "score rds": ["score", "rds", *scoring],
        "score gradient": ["score", "gradient", *scoring, "--dry-run"],
        "score learned": ["score", "learned", *scoring, "--dry-run"],
        "score cascade": ["score", "cascade", *scoring, "--dry-run"],
        "select": ["select", str(ground.run("random")), "--fraction", "0.2"],
        "train": [
            "train",
            "--data",
            str(ground.run("selection") / "selection.jsonl"),
            "--model",
            str(root / "model"),
            *TRAINING,
            *ENCODING,
        ],
        "evaluate": ["evaluate", str(root / "model"), *ground.target, "--test", str(root / "test.jsonl"), *ENCODING],
        "cost": [
            "cost",
            "gradient",
            "--model",
            str(root / "model"),
            "--pool-tokens",
            "1e6",
            "--pool-examples",
            "1000",
            "--references",
            "9",
        ],
        "advise": ["advise", "--train-params", "1e9", "--pool-tokens", "1e7", "--references", "9", "--budget", "1e17"],
        "fit": ["fit", table],
        "dedup": ["dedup", "--pool", ground.pool],
        "split": ["split", "--pool", ground.pool],
        "decontaminate": ["decontaminate", "--pool", ground.pool, "--references", str(root / "references.jsonl")],
        "tiny": ["tiny", "--pool", ground.pool],
        "export": ["export", str(ground.run("selection"))],
        "import-scores": ["import-scores", str(root / "published"), *published],
        "import-gradients": ["import-gradients", str(root / "published" / "dim8"), *published[:2], "--checkpoint", "c"],
        "inspect": ["inspect", str(ground.run("random"))],
        "doctor": ["doctor"],
        "methods": ["methods"],
    }


def arguments(ground: Ground, random: Random, folder: Path) -> list[str]:
    verb, line = random.choice(sorted(commands(ground).items()))
    line = list(line)
    known = ground.options.get(verb, [])
    for _ in range(random.choice([1, 1, 1, 2])):
        act = random.random()
        value = random.choice(mutate.NUMBERS if random.random() < 0.7 else mutate.WORDS)
        if act < 0.7 and known:
            flag, takes = random.choice(known)
            line += [flag, value] if takes else [flag]
        elif act < 0.85 and len(line) > 2:
            line[random.randrange(1, len(line))] = value
        elif act < 0.95 and len(line) > 2:
            del line[random.randrange(1, len(line))]
        else:
            line.append(value)
    line = [part.replace("\x00", "") for part in line]  # no shell can pass it
    return line if verb in WITHOUT_OUT else [*line, "--out", str(folder / "out")]


def artifacts(ground: Ground, random: Random, folder: Path) -> list[str]:
    """A finished artifact with one of its files damaged or gone, then something that reads it."""
    name = random.choice(["random", "ppl", "selection", "tuned", "evaluation", "study", "dedup", "model"])
    place = (
        Path(shutil.copytree(ground.root / "model", folder / "model"))
        if name == "model"
        else copy_run(ground, name, folder)
    )
    files = sorted(p for p in place.rglob("*") if p.is_file())
    chosen = random.choice(files)
    if random.random() < 0.15:
        chosen.unlink()
    else:
        mutate.damage_file(chosen, random)
    out = ["--out", str(folder / "out")]
    testing = [*ground.target, "--test", str(ground.root / "test.jsonl"), *ENCODING]
    readers: dict[str, list[list[str]]] = {
        "random": [["select", str(place), "--fraction", "0.1", *out], ["run", str(place / "config.yaml"), *out]],
        "ppl": [["select", str(place), "--count", "3", *out]],
        "selection": [
            ["export", str(place), *out],
            [
                "train",
                "--data",
                str(place / "selection.jsonl"),
                "--model",
                str(ground.root / "model"),
                *TRAINING,
                *ENCODING,
                *out,
            ],
        ],
        "tuned": [
            ["evaluate", str(place / "model"), *testing, *out],
            ["doctor", str(place / "model"), "--dtype", "float32", "--attention", "eager"],
        ],
        "evaluation": [["run", str(place / "config.yaml"), *out]],
        "study": [
            ["report", str(place)],
            ["report", str(place)],
            ["fit", str(place)],
            ["advise", "--train-params", "1e6", "--pool-tokens", "1e4", "--budget", "1e12", "--results", str(place)],
            ["run", str(ground.root / "recipe.yaml"), "--out", str(place)],
        ],
        "dedup": [["run", str(place / "config.yaml"), *out]],
        "model": [
            ["score", "rds", "--pool", ground.pool, *ground.target, *ENCODING, "--model", str(place), *out],
            ["evaluate", str(place), *testing, *out],
            ["cost", "bm25", "--model", str(place), "--pool-tokens", "1e6", "--pool-examples", "100"],
        ],
    }
    return random.choice([["inspect", str(place)], *readers[name], *readers[name]])


def tables(ground: Ground, random: Random, folder: Path) -> list[str]:
    """A results table with odd rows, as people's own tables have them."""
    rows = pyarrow.parquet.read_table(ground.run("study") / "results.parquet").to_pylist()
    rows = [*rows, *({**row, "seed": 2, "score": (row.get("score") or 0) + 0.01} for row in rows)]
    table: Any = rows
    for _ in range(random.choice([1, 2, 4])):
        table = mutate.mutated(table, random)
    kind = random.choice(["jsonl", "csv", "parquet"])
    path = folder / f"results.{kind}"
    good = [row for row in table if isinstance(row, dict)] if isinstance(table, list) else []
    if kind == "jsonl":
        path.write_text("".join(mutate.dump(row) + "\n" for row in (table if isinstance(table, list) else [table])))
    elif kind == "csv":
        with open(path, "w", newline="", encoding="utf-8", errors="replace") as handle:
            writer = csv.DictWriter(
                handle, list({str(k): 0 for row in good for k in row}) or ["a"], extrasaction="ignore", escapechar="\\"
            )
            writer.writeheader()
            writer.writerows(good)
    else:
        try:
            pyarrow.parquet.write_table(pa.Table.from_pylist(good or [{"a": 1}]), path)
        except (pa.ArrowException, UnicodeEncodeError, TypeError, OverflowError):
            path.write_bytes(b"PAR1")
    if random.random() < 0.2:
        path.write_bytes(mutate.damaged(path.read_bytes(), random))
    verb = random.choice(["fit", "advise"])
    if verb == "fit":
        return ["fit", str(path), "--variant", random.choice(["training", "published"])]
    return ["advise", "--train-params", "1e6", "--pool-tokens", "1e4", "--budget", "1e12", "--results", str(path)]


def responses(ground: Ground, random: Random, folder: Path) -> list[str]:
    benchmark = random.choice(["ifeval", "ifeval", "bbh", "tydiqa", "mmlu"])
    layout = ground.root / "less"
    source = layout / "eval/ifeval/gpt4_responses.jsonl"
    rows: list[Any] = [json.loads(line) for line in source.read_text().splitlines()] * 2
    for _ in range(random.choice([1, 2])):
        rows = mutate.mutated(rows, random)
        rows = rows if isinstance(rows, list) else [rows]
    path = folder / "responses.jsonl"
    path.write_text("".join(mutate.dump(row) + "\n" for row in rows))
    if random.random() < 0.2:
        path.write_bytes(mutate.damaged(path.read_bytes(), random))
    return [
        "evaluate",
        "--responses",
        str(path),
        "--benchmark",
        benchmark,
        "--data",
        str(layout),
        "--out",
        str(folder / "out"),
    ]


def folders(ground: Ground, random: Random, folder: Path) -> list[str]:
    """Published score files and gradient folders."""
    import torch

    place = Path(shutil.copytree(ground.root / "published", folder / "published"))
    pools = [part for s in ("sums", "chat") for part in ("--pool", f"{s}={place / s}.jsonl")]
    gradients = random.random() < 0.5
    chosen = place / "dim8" / "all_orig.pt" if gradients else place / "chat_influence_score.pt"
    if random.random() < 0.5:
        chosen.write_bytes(mutate.damaged(chosen.read_bytes(), random))
    else:
        shape = random.choice([(20, 8), (20, 0), (0, 8), (19, 8), (20,), (20, 8, 1), ()])
        tensor = torch.randn(shape)
        fill = random.choice([None, float("nan"), float("inf"), 0.0, 1e38])
        if fill is not None and tensor.numel():
            tensor.view(-1)[0] = fill
        kind = random.choice([torch.float32, torch.float16, torch.int64, torch.bool, torch.complex64])
        value = tensor.to(kind) if kind != torch.int64 or fill is None else tensor
        torch.save(random.choice([value, value, {"a": value}, [value], "text", None]), chosen)
    out = ["--out", str(folder / "out")]
    if gradients:
        return ["import-gradients", str(place / "dim8"), *pools[:2], "--checkpoint", "c", *out]
    return ["import-scores", str(place), *pools, *out]


KINDS: dict[str, Case] = {
    case.__name__: case for case in (pools, targets, recipes, arguments, artifacts, tables, responses, folders)
}
