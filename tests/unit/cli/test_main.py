"""How commands end."""

import errno
import os
from typing import Any, NoReturn

import pytest

from gitserver.cli import main


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT])
def test_what_the_system_refuses_is_not_called_a_bug(
    number: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(**_: Any) -> NoReturn:
        raise OSError(number, os.strerror(number), "/backup/today")

    monkeypatch.setattr(main.gitserver, "main", refused)

    code = main.run(["backup", "/backup/today"])

    said = capsys.readouterr().err
    assert code == 1
    assert said.startswith(f"Error: /backup/today: {os.strerror(number)}; ")
    assert "bug" not in said


def test_anything_else_is_called_a_bug(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def wrong(**_: Any) -> NoReturn:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))

    monkeypatch.setattr(main.gitserver, "main", wrong)

    assert main.run(["backup", "/backup/today"]) == 70
    assert "this is a bug in gitserver" in capsys.readouterr().err
