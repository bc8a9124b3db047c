"""What `paydirt --help` tells, in which order; and that a shell can complete it."""

from __future__ import annotations

import re
import subprocess
import sys

from support.command import environment, python

from paydirt.cli.groups import OTHERS, SECTIONS


def help_of(*verb: str) -> str:
    return python(f"import sys; sys.argv = {['paydirt', *verb, '--help']}\nimport paydirt.__main__")


def verbs(text: str) -> list[str]:
    """Names in the order of a help text's lists of commands."""
    return [name for name in re.findall(r"^  ([a-z0-9-]+)  ", text, re.M) if not name.startswith("--")]


def test_verbs_stand_in_the_order_of_the_pipeline() -> None:
    """Every verb has its place under a heading, and a heading names no verb that is gone."""
    text = help_of()
    assert OTHERS not in re.findall(r"^(.+):$", text, re.M)
    assert verbs(text) == [name for names in SECTIONS.values() for name in names]
    at = [text.index(f"\n  {verb} ") for verb in ("dedup", "score", "select", "train", "evaluate", "run", "report")]
    assert at == sorted(at)


def test_no_verb_s_help_is_cut() -> None:
    _, *lines = help_of().splitlines()  # the first tells the usage: ARGS...
    assert [line for line in lines if line.endswith("...")] == []


def test_methods_stand_cheap_to_dear() -> None:
    names = verbs(help_of("score"))
    known = [n for n in names if n in ("random", "bm25", "embed", "rds", "ifd", "gradient", "oracle")]
    assert known == ["random", "bm25", "embed", "rds", "ifd", "gradient", "oracle"]


def test_a_shell_can_complete_verbs_and_options() -> None:
    for words, offered in (("paydirt sel", "select"), ("paydirt select x --frac", "--fraction")):
        asked = environment(
            _PAYDIRT_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=str(len(words.split()) - 1),
        )  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-c", "import sys; sys.argv = ['paydirt']\nfrom paydirt.entry import main\nmain()"],
            capture_output=True, text=True, env=asked, check=False, timeout=120,
        )  # fmt: skip
        assert offered in done.stdout.split(), done
