"""The card of an export: its receipts as the README of a data set, in Markdown that the hub and an editor show alike.

What enters: receipts by name. What leaves: text. Whatever comes from data stands in code fences longer than any run of
backticks in it, or has the characters of Markdown and HTML escaped, so that no example can write into the page.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from paydirt.core.config import dump_yaml
from paydirt.core.units import number

Receipts = Mapping[str, Mapping[str, Any]]
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def card(receipts: Receipts, rows: Mapping[str, int], taken: Mapping[str, int], weights: Mapping[str, float]) -> str:
    """README.md; `rows` of each file, `taken` of them by the mixture."""
    total = sum(rows.values())
    head = {
        "pretty_name": ", ".join(rows),
        "task_categories": ["text-generation"],
        "tags": ["paydirt", "data-selection", "sft"],
        "size_categories": [next((name for limit, name in SIZES if total < limit), "1M<n<10M")],
        "configs": [
            {"config_name": name, "data_files": f"{name}.jsonl", **({"default": True} if not number else {})}
            for number, name in enumerate(rows)
        ],
    }
    parts = [f"---\n{dump_yaml(head)}---\n", f"# {plain(', '.join(rows))}\n", _opening(rows, taken, weights)]
    for name, receipt in receipts.items():
        parts += [f"## {plain(name)}\n", *_receipt(receipt)]
    return "\n".join([*parts, _use()])


def _opening(rows: Mapping[str, int], taken: Mapping[str, int], weights: Mapping[str, float]) -> str:
    lines = [
        "Fine-tuning data chosen by [paydirt](https://pypi.org/project/paydirt-llm/). This card is its receipt: who chose "
        "what for what, what it cost, what was left out, and how to check it. The same facts as data: `receipt.json`.\n",
        *table(
            ["file", "rows", *(["weight", "rows in the mixture"] if weights else [])],
            (
                [f"`{name}.jsonl`", number(count), *([f"{weights[name]:g}", number(taken[name])] if weights else [])]
                for name, count in rows.items()
            ),
        ),
        "Columns: `messages`; `score` and `rank` (1 is best) in the selection; `source`, which the example came from, and "
        "`dataset`, the same under open-instruct's name; `weight`, how much it counts (mean 1); `id` in the pool.\n",
    ]
    return "\n".join(lines)


def _receipt(r: Mapping[str, Any]) -> Iterable[str]:
    yield from _origin(r["origin"])
    yield "### Gain over random data\n"
    yield _gain(r["gain"])
    yield "### Sources\n"
    yield from table(
        ["source", "in the pool", "exported", "share of the export"],
        (
            [
                plain(name or "(no source)"),
                number(c["pool"]),
                number(c["exported"]),
                f"{c['exported'] / r['examples']:.1%}",
            ]
            for name, c in r["sources"].items()
        ),
    )
    yield "### What was dropped, and why\n"
    yield from _dropped(r["dropped"], r["turns"])
    yield "### What is learnt: mask and stop token\n"
    yield from _mask(r["mask"])
    yield "### Contamination\n"
    yield from _contamination(r["contamination"])
    yield "### A sample, with the references that speak for it\n"
    for one in r["sample"]:
        yield from _sample(one)
    yield "### Cost\n"
    yield from _cost(r["cost"])
    yield "### Make it again\n"
    yield "`paydirt run FILE.yaml --out DIR` with each of these, in this order:\n"
    for name, config in reversed(list(r["origin"]["replay"].items())):
        yield f"{plain(name)}\n\n{fence(dump_yaml(config), 'yaml')}\n"


def _origin(o: Mapping[str, Any]) -> Iterable[str]:
    chose = "; ".join(
        f"{plain(m['method'])} for {plain(m['target']) or 'no target'}, weight {m['weight']:g}" for m in o["methods"]
    )
    budget = ", ".join(f"{k} {number(v)}" for k, v in o["budget"].items())
    yield f"Chosen by **{chose}**; policy {plain(str(o['policy']))}, budget {budget}. "
    yield f"Selection `{o['fingerprint']}`, finished {o['finished']}.\n"


def _gain(g: Mapping[str, Any]) -> str:
    if "why_not" in g:
        return f"Not known: {plain(g['why_not'])}.\n"
    seeds = len(g["runs"])
    spread = (
        f"95 % interval {g['low']:+.3f} to {g['high']:+.3f} (paired t over {seeds} seeds)"
        if g["low"] is not None
        else f"{seeds} seed{'s' if seeds > 1 else ''}: too few for an interval (three are needed)"
    )
    beyond = (
        " Random data has no dearer run than the whole pool, which it is compared with." if g["beyond_random"] else ""
    )
    runs = table(
        ["seed", f"{plain(g['method'])} at {g['fraction']:.3g} of the pool", "random at the same total FLOPs"],
        ([str(run["seed"]), f"{run['score']:.3f}", f"{run['random']:.3f}"] for run in g["runs"]),
    )
    return "\n".join(
        [
            f"**{g['gain']:+.3f}** {plain(g['metric'])} on {plain(g['task'])} over random data at the same total of "
            f"{number(g['total_flops'], 'FLOPs')} for selecting and training; {spread}.{beyond}\n",
            *runs,
        ]
    )


def _dropped(d: Mapping[str, Any], turns: Mapping[str, Any]) -> Iterable[str]:
    account = d["import"]
    lines = (
        [f"{number(account.get('read', 0))} records read, {number(account.get('kept', 0))} kept."] if account else []
    )
    for kind in ("skipped", "left out", "lost", "changed"):
        lines += [
            f"{kind}: {number(entry['count'])} x {plain(what)}, first {plain(entry['first'][0])}"
            for what, entry in account.get(kind, {}).items()
        ]
    for place in ("encoding", "selecting"):
        lines += [f"{place}: {number(count)} {plain(what.replace('_', ' '))}" for what, count in d[place].items()]
    lines += [
        f"order of turns: {number(entry['count'])} x {plain(what)}, first {plain(entry['first'])}"
        for what, entry in turns.items()
    ]
    for one in d["before"]:
        facts = ", ".join(f"{k} {number(v)}" for k, v in one["notes"].items() if isinstance(v, int))
        lines.append(f"before that, {one['stage']} ({code(one['path'])}): {plain(facts)}")
    yield "\n".join(f"- {line}" for line in lines) + "\n"
    for one in d["before"]:
        for match in one["first"][:3]:
            yield f"Left out by {one['stage']}:\n\n{fence(json.dumps(match, indent=1, ensure_ascii=False))}\n"


def _mask(m: Mapping[str, Any]) -> Iterable[str]:
    if "why_not" in m:
        yield f"Not shown: {plain(m['why_not'])}.\n"
        return
    counts = ", ".join(f"{number(v)} {k}" for k, v in m["checked"].items())
    yield (
        f"Of {number(m['of'])} rows checked with the tokenizer {code(m['tokenizer'])} in the form `{m['template']}` at "
        f"max_length {m['max_length']} (stop token {code(m['stop_token'])}): {counts}. Behind `>` is what is learnt:\n"
    )
    for one in m["decoded"]:
        text = "\n".join(
            ("> " if s["learnt"] else "  ") + repr(s["text"])[1:-1] + f"   [{s['tokens']} tokens]"
            for s in one["stretches"]
        )
        end = repr(one["last_learnt"])
        yield f"{code(one['id'])}, last learnt token {code(end)}:\n\n{fence(text)}\n"


def _contamination(c: Mapping[str, Any]) -> Iterable[str]:
    if "why_not" in c:
        yield f"Not looked for: {plain(c['why_not'])}.\n"
        return
    kinds = ", ".join(f"{number(v)} {k}" for k, v in c["by_kind"].items())
    yield f"Looked for {plain('; '.join(c['sought']))} in {number(c['examples'])} exported examples: {kinds}.\n"
    for match in c["first"]:
        shared = match["shared"] or f"similarity {match['similarity']}"
        head = f"{match['kind']}: {match['id']} and {match['item']}: {shared}"
        yield fence(f"{head}\n\n{match['example_text']}\n\n{match['item_text']}") + "\n"


def _sample(one: Mapping[str, Any]) -> Iterable[str]:
    score = "no score" if one["score"] is None else f"score {one['score']:.4g}"
    yield f"Rank {one['rank']}, {score}, source {plain(one['source'])}, {code(one['id'])}:\n"
    yield fence(one["text"]) + "\n"
    for other in one["nearest"]:
        if "why_not" in other:
            yield f"- {plain(other['method'])} {plain(other['why_not'])}"
            continue
        text = " ".join(other["text"].split())[:240]
        yield (
            f"- {plain(other['method'])} {other['influence']:.4g}: {plain(other['reference'])} "
            f"({plain(other['subtask'])}): {plain(text)}"
        )
    yield ""


def _cost(c: Mapping[str, Any]) -> Iterable[str]:
    yield f"{number(c['flops'], 'FLOPs')} and {number(c['seconds'], 's')} to score and select.\n"
    yield from table(
        ["work", "predicted FLOPs", "measured FLOPs", "tokens", "seconds", "device"],
        (
            [
                plain(f"{line['stage']} {line['what']}"),
                number(float(line["predicted_flops"])),
                "not counted" if line["measured_flops"] is None else number(float(line["measured_flops"])),
                number(line["tokens"]),
                number(float(line["seconds"])),
                plain(line["device"]),
            ]
            for line in c["lines"]
        ),
    )


def _use() -> str:
    return (
        "## Use it\n\n"
        "In this folder: `trl sft --config trl.yaml --model_name_or_path MODEL --output_dir OUT`; `axolotl train` with the "
        "keys of `axolotl.yaml` in your config; `llamafactory-cli train` with those of `llama_factory.yaml`; "
        "open-instruct's `--dataset_mixer_list` from `open_instruct.yaml`. Rows in a curriculum's order stay in it, but "
        "for open-instruct, which shuffles. `chat_template.jinja` is the chat form that the masks above are of, with the "
        "marks that TRL's `assistant_only_loss` needs.\n"
    )


# ---- text that cannot break out -----------------------------------------------------------------------------------------


def plain(text: str) -> str:
    """Text from data on one line, without a meaning in Markdown or HTML."""
    return re.sub(r"([\\`*_{}\[\]()#+!|~$])", r"\\\1", html.escape(" ".join(str(text).split()), quote=False))


def code(text: str) -> str:
    """Text from data on one line, as it is, in a code span that it cannot close."""
    line = " ".join(str(text).split())
    ticks = "`" * (1 + max((len(run) for run in re.findall(r"`+", line)), default=0))
    pad = " " if line[:1] == "`" or line[-1:] == "`" else ""
    return f"{ticks}{pad}{line}{pad}{ticks}"


def fence(text: str, kind: str = "text") -> str:
    """Text in a code fence that it cannot close."""
    ticks = "`" * max(3, 1 + max((len(run) for run in re.findall(r"`+", text)), default=0))
    return f"{ticks}{kind}\n{text.rstrip()}\n{ticks}"


def table(head: list[str], rows: Iterable[list[str]]) -> list[str]:
    """A Markdown table; cells are escaped already."""
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}", *(f"| {' | '.join(row)} |" for row in rows)]
    return ["\n".join(lines) + "\n"]
