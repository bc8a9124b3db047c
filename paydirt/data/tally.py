"""What became of every record: the counts of an import, and the short table that every verb shows of a pool.

What enters: faults and losses as they are met, each with its place. What leaves: the pool's notes, an `account` for
manifests (read = kept + skipped + left out), and its lines for the screen. `opened` remembers the pools that this process
has opened, so that a command can show them at its end, found in the cache or not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from paydirt.data.lines import META, BadRecord, LeftOut
from paydirt.data.turns import Conversation

FIRST_PLACES = 5
MOST_COLUMNS = 50  # names of unused columns to remember: hostile records may bring a new one each
ON_BAD = " (or set on_bad: skip, `--on-bad skip` on the command line, to leave such records out, counted)"

OF_ALL = ("unknown form", "missing column")  # faults that one record has as all others do

opened: dict[str, dict[str, Any]] = {}


def _count(entries: dict[str, dict[str, Any]], what: str, place: str, count: int = 1) -> None:
    entry = entries.setdefault(what, {"count": 0, "first": []})
    entry["count"] += count
    if len(entry["first"]) < FIRST_PLACES:
        entry["first"].append(place)


@dataclass
class Tally:
    """What the import met on its way; becomes the pool's notes."""

    on_bad: str = "raise"
    remedy: str = ON_BAD
    read: int = 0
    forms: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, dict[str, Any]] = field(default_factory=dict)
    left_out: dict[str, dict[str, Any]] = field(default_factory=dict)
    lost: dict[str, dict[str, Any]] = field(default_factory=dict)
    changed: dict[str, dict[str, Any]] = field(default_factory=dict)
    unused: Counter[str] = field(default_factory=Counter)
    unread: dict[str, int] = field(default_factory=dict)
    blank_user_turns: int = 0

    def bad(self, place: str, fault: BadRecord) -> None:
        """Count a bad record, or raise it as ValueError naming its place."""
        text = f"{place}: {fault}".encode("utf-8", "backslashreplace").decode()
        if isinstance(fault, LeftOut):
            _count(self.left_out, fault.reason, text)
        elif self.on_bad == "skip":
            _count(self.skipped, fault.reason, text)
        else:
            whole = fault.reason in OF_ALL and not self.forms  # of the first record, as it will be of the others
            raise ValueError(text if whole else text + self.remedy)

    def met(self, place: str, found: Conversation, record: dict[str, Any], seen: set[str]) -> None:
        """Count what a good record held that its turns do not show; `seen` are the columns that were read."""
        for entries, counts in ((self.lost, found.lost), (self.changed, found.changed)):
            for what, count in counts.items():
                _count(entries, what, place, count)
        for column in record:
            if column not in seen and column not in META and record[column] not in (None, "", [], {}):
                name = str(column)[:80].encode("utf-8", "backslashreplace").decode()
                self.unused[name if name in self.unused or len(self.unused) < MOST_COLUMNS else "others"] += 1
        self.blank_user_turns += sum(role == "user" and not content.strip() for role, content in found.turns)

    def why_empty(self) -> str:
        """Why no record is left, with the first place of each reason."""
        met = [*self.skipped.items(), *self.left_out.items()]
        if not met:
            return "no records found"
        return f"all {self.read} records were bad: " + "; ".join(
            f"{e['count']} {r}, first {e['first'][0]}" for r, e in met
        )

    def notes(self) -> dict[str, Any]:
        return {
            "read": self.read,
            "skipped": self.skipped,
            "left out": self.left_out,
            "lost": self.lost,
            "changed": self.changed,
            "columns not used": dict(self.unused.most_common()),
            "splits not read": sorted(self.unread),
            "blank user turns": self.blank_user_turns,
        }


def account(notes: dict[str, Any]) -> dict[str, Any]:
    """The part of a pool's notes that tells what became of its records: read = kept + skipped + left out."""
    keys = ("read", "skipped", "left out", "lost", "changed", "columns not used", "splits not read", "blank user turns")
    found = {key: notes[key] for key in keys if notes.get(key)}
    return {
        "files": notes["files"],
        "kept": notes["examples"],
        "renamed repeats": notes["ids"]["repeats renamed"],
        **found,
    }


def note_encoding(fingerprint: str, notes: dict[str, Any]) -> None:
    """Add what encoding a pool met (texts cut short, nothing left to learn from) to its account."""
    if fingerprint in opened:
        counts = {
            key.replace("_", " "): notes[key] for key in ("truncated", "without_supervised_tokens") if notes.get(key)
        }
        opened[fingerprint].update(counts)


COUNTED = (
    ("blank user turns", "blank user turns kept"),
    ("truncated", "examples cut at max_length"),
    ("without supervised tokens", "examples without a supervised token after encoding"),
)


def rows_of(account: dict[str, Any]) -> Iterator[tuple[str, int, str, str]]:
    """Kind, count, what, and the first place where it is known, of each thing that is not as it was."""
    for kind in ("skipped", "left out", "lost", "changed"):
        for what, entry in account.get(kind, {}).items():
            yield kind, entry["count"], what, entry["first"][0]
    if account.get("renamed repeats"):
        yield "renamed", account["renamed repeats"], "repeated content, ids end in -2, -3, ...", ""
    for key, what in COUNTED:
        if account.get(key):
            yield "counted", account[key], what, ""
    for name, count in _listed(account.get("columns not used")):
        yield "not used", count, f"column {name}", ""
    for name, _ in _listed(account.get("splits not read")):
        yield "not read", 0, f"split {name} (set split)", ""


def _listed(found: Any) -> list[tuple[str, int]]:
    return [(str(name), int(found[name]) if isinstance(found, dict) else 0) for name in found or []]


def lines_of(account: dict[str, Any]) -> Iterator[str]:
    """The table of one pool: a line of totals, and one for each thing that is not as it was."""
    files = account["files"]
    shown = ", ".join(files[:3]) + (f" and {len(files) - 3} more" if len(files) > 3 else "")
    yield f"pool {shown}: {account.get('read', 0)} read, {account['kept']} kept"
    for kind, count, what, first in rows_of(account):
        if kind not in ("not used", "not read"):
            yield f"  {kind:<9} {count:>7}  {what}" + (f", first {first}" if first else "")
    if account.get("columns not used"):
        yield f"  columns not used: {', '.join(account['columns not used'])}"
    if account.get("splits not read"):
        yield f"  splits not read (set split): {', '.join(account['splits not read'])}"
