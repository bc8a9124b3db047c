"""IFEval references: 100 prompts with a response, the kind of their first instruction as subtask.

Source: Zhou et al., arXiv 2311.07911. The seeds say "100 reference prompt/response pairs" and not which; ours are the
first 100 lines of `gpt4_responses.jsonl`, a choice that is at least deterministic. Their prompts are part of IFEval's
541 evaluation prompts, so the benchmark `ifeval` leaves them out.

Where `input_data.jsonl` lies beside it, the subtask is the family of the prompt's first instruction id
("length_constraints:number_words" -> "length_constraints"); otherwise all are one subtask, "ifeval". A file
`{key: "prompt Response: answer"}` (the seeds' form) is taken where there are no `gpt4_responses.jsonl`; it is cut at
the first " Response: ".
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from paydirt.data.readers import BadRecord, read_rows
from paydirt.targets.base import Reference, TargetConfig, TargetLoader, layout_path, read_object, reference

LAYOUT = "eval/ifeval/gpt4_responses.jsonl (prompt, response), or one .json {key: 'prompt Response: answer'}"
COUNT = 100
MARK = " Response: "


class IFEvalTarget(TargetLoader):
    """The first `COUNT` pairs."""

    name = "ifeval"

    def references(self, config: TargetConfig) -> list[Reference]:
        folder = layout_path(config, "ifeval", LAYOUT)
        responses = folder / "gpt4_responses.jsonl"
        pairs = _jsonl_pairs(responses) if responses.is_file() else _object_pairs(_only_json(folder))
        families = _families(folder / "input_data.jsonl")
        found = []
        for (key, prompt, answer), _ in zip(pairs, range(COUNT)):
            found.append(reference("ifeval", families.get(prompt.strip(), "ifeval"), key, prompt, answer))
        return found


def has_references(folder: Path) -> bool:
    """Whether the folder of IFEval's files holds references too."""
    return (folder / "gpt4_responses.jsonl").is_file() or len(list(folder.glob("*.json"))) == 1


def _only_json(folder: Path) -> Path:
    files = sorted(folder.glob("*.json"))
    if len(files) != 1:
        names = ", ".join(file.name for file in files) or "none"
        raise ValueError(f"target 'ifeval': no references in {folder} (.json files: {names}); it should hold {LAYOUT}")
    return files[0]


def _jsonl_pairs(path: Path) -> Iterator[tuple[str, str, str]]:
    for line, record, _ in read_rows(str(path)):
        if isinstance(record, BadRecord):
            raise ValueError(f"{path}:{line}: {record}")
        prompt, response = record.get("prompt"), record.get("response")
        if not isinstance(prompt, str) or not isinstance(response, str):
            raise ValueError(f"{path}:{line}: expected texts `prompt` and `response`, found {', '.join(record)}")
        yield str(line), prompt, response


def _object_pairs(path: Path) -> Iterator[tuple[str, str, str]]:
    for key, text in read_object(path).items():
        prompt, mark, answer = str(text).partition(MARK)
        if not mark:
            raise ValueError(f"{path}: entry {key!r} has no {MARK.strip()!r} between prompt and answer")
        yield key, prompt, answer


def _families(path: Path) -> dict[str, str]:
    """Prompt to the family of its first instruction; {} where the file is absent."""
    families: dict[str, str] = {}
    for _, record, _ in read_rows(str(path)) if path.is_file() else ():
        if not isinstance(record, BadRecord) and record.get("instruction_id_list"):
            families[str(record.get("prompt")).strip()] = str(record["instruction_id_list"][0]).split(":")[0]
    return families
