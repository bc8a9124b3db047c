"""Every raw public form in `forms/` is read as its turns stand in `expected.json`, or refused with the reason there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from paydirt.data.pool import PoolConfig, open_pool

FORMS = Path(__file__).parent / "forms"
EXPECTED: dict[str, dict[str, Any]] = json.loads((FORMS / "expected.json").read_text(encoding="utf-8"))


def test_there_is_a_line_for_every_file() -> None:
    assert sorted(EXPECTED) == sorted(p.name for p in FORMS.iterdir() if p.name != "expected.json")
    assert len(EXPECTED) >= 28


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_each_form_is_read_or_refused_with_the_reason(name: str, tmp_path: Path) -> None:
    wanted = EXPECTED[name]
    config = PoolConfig(files=str(FORMS / name), **wanted.get("options", {}))
    if "refused" in wanted:
        with pytest.raises(ValueError) as caught:
            open_pool(config, tmp_path)
        assert wanted["refused"] in str(caught.value)
        assert name in str(caught.value)
        return
    pool = open_pool(config, tmp_path)
    assert [[[m.role, m.content] for m in example.messages] for example in pool.examples()] == wanted["turns"]
    assert pool.form == wanted["form"]
    account = pool.account()
    counted = {
        f"{kind}: {what}": entry["count"]
        for kind in ("skipped", "left out", "lost", "changed")
        for what, entry in account.get(kind, {}).items()
    }
    assert counted == wanted.get("counted", {})
    assert sorted(account.get("columns not used", {})) == sorted(wanted.get("unused", []))
    gone = sum(e["count"] for kind in ("skipped", "left out") for e in account.get(kind, {}).values())
    assert account["read"] == account["kept"] + gone
