"""The code of a method is part of its key: an edit that can matter makes another digest, and no other does."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pytest

from paydirt.core import artifacts
from paydirt.scoring.base import SCORERS


class TestCode:
    """A method's author who edits the file must not read "up to date"."""

    SOURCE = '''
        """A method."""
        from typing import ClassVar
        import numpy as np
        from paydirt.scoring.base import Scorer

        FACTOR = 2.0

        def helper(n):
            return np.ones((n, 1)) * FACTOR

        def unused():
            return 1

        class Mine{number}(Scorer):
            """Scores."""
            name: ClassVar[str] = ""
            version: ClassVar[int] = 1

            def score_rows(self, job, state, rows):
                """Rows."""
                return helper(len(rows))  # a comment
    '''

    def digest(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str = "", new: str = "") -> str:
        import importlib
        import sys

        from paydirt.core.source import code_digest
        from paydirt.scoring.base import Scorer

        text = textwrap.dedent(self.SOURCE).replace("{number}", "")
        assert old in text
        (tmp_path / "mine.py").write_text(text.replace(old, new, 1))
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.setattr(sys, "dont_write_bytecode", True)
        sys.modules.pop("mine", None)
        importlib.invalidate_caches()
        code_digest.cache_clear()
        import linecache

        linecache.clearcache()
        return code_digest(importlib.import_module("mine").Mine, Scorer)

    @pytest.mark.parametrize(
        ("old", "new", "same"),
        [
            ("len(rows))", "len(rows)) + 1", False),
            ("return np.ones", "return -np.ones", False),
            ("FACTOR = 2.0", "FACTOR = 3.0", False),
            ("version: ClassVar[int] = 1", "version: ClassVar[int] = 2", False),
            ("# a comment", "# another", True),
            ('"""Rows."""', '"""Rows, in order."""', True),
            ('"""A method."""', '"""My method."""', True),
            ("return 1", "return 2", True),
            ("import numpy as np", "import numpy as np\n\n\n", True),
        ],
    )
    def test_an_edit_counts_where_it_can_matter(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str, same: bool
    ) -> None:
        before = self.digest(tmp_path, monkeypatch)
        assert (self.digest(tmp_path, monkeypatch, old, new) == before) is same

    @pytest.mark.parametrize("how", ["from room.shared import helper", "from room import shared"])
    def test_code_of_a_shared_room_counts(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
        """What a method names in its family's rooms counts, by name or as a module, and what that names in turn."""
        import importlib
        import linecache
        import sys

        from paydirt.core.source import code_digest

        call = "helper()" if "helper" in how else "shared.helper()"
        own = f"{how}\nfrom other import away\nfrom family import Base\n\n\n"
        files = {
            "family.py": "class Base:\n    code_rooms = ('room',)\n",
            "method.py": f"{own}class Mine(Base):\n    def run(self):\n        return {call}, away()\n",
            "room/__init__.py": "",
            "room/shared.py": "from room.inner import deep\n\n\ndef helper():\n    return deep()\n",
        }
        (tmp_path / "room").mkdir()
        for name, text in files.items():
            (tmp_path / name).write_text(text)
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.setattr(sys, "dont_write_bytecode", True)

        def digest(deep: int, away: int) -> str:
            (tmp_path / "room" / "inner.py").write_text(f"def deep():\n    return {deep}\n")
            (tmp_path / "other.py").write_text(f"def away():\n    return {away}\n")
            for name in ("method", "family", "room", "room.shared", "room.inner", "other"):
                sys.modules.pop(name, None)
            importlib.invalidate_caches()
            code_digest.cache_clear()
            linecache.clearcache()
            return code_digest(importlib.import_module("method").Mine, importlib.import_module("family").Base)

        first = digest(1, 1)
        assert digest(2, 1) != first
        assert digest(1, 2) == first, "a module outside the rooms is a library, which has a version"

    def test_a_class_without_source_counts_by_its_bytecode(self) -> None:
        from paydirt.core.source import code_digest
        from paydirt.scoring.base import Scorer

        def typed(text: str) -> str:
            space: dict[str, Any] = {"__name__": "typed_at_a_prompt"}
            exec(compile(textwrap.dedent(text).replace("{number}", ""), "<prompt>", "exec"), space)
            return code_digest(space["Mine"], Scorer)

        first = typed(self.SOURCE)
        assert typed(self.SOURCE) == first
        assert typed(self.SOURCE.replace('"""Rows."""', '"""Others."""')) == first
        for old, new in (
            ("len(rows))", "len(rows)) + 1"),
            ("return np.ones", "return -np.ones"),
            ("= 2.0", "= 3.0"),
        ):
            assert typed(self.SOURCE.replace(old, new)) != first

    def test_every_scorer_has_a_version_and_names_its_libraries(self) -> None:
        for name in SCORERS.names():
            scorer = SCORERS.get(name)
            assert scorer.version >= 1
            assert set(scorer.libraries) <= {*artifacts.RECORDED}
