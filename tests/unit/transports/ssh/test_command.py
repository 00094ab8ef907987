"""What may be asked for over SSH."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitserver.transports.ssh.command import MAX_COMMAND_BYTES, CommandRefused, GitCommand, parse_command


@pytest.mark.parametrize(
    ("text", "service", "repository"),
    [
        (b"git-upload-pack '/v1/repos/web'", "upload-pack", "web"),
        (b"git upload-pack '/v1/repos/web'", "upload-pack", "web"),
        (b"git-upload-pack 'v1/repos/web'", "upload-pack", "web"),
        (b"git-receive-pack '/v1/repos/web.git'", "receive-pack", "web"),
        (b"git-upload-archive '/v1/repos/web/'", "upload-archive", "web"),
        (b"git-upload-pack /v1/repos/a.b_c-d", "upload-pack", "a.b_c-d"),
        (rb"git-upload-pack '/v1/repos/it'\''s'", "upload-pack", "it's"),
        (rb"git-upload-pack '/v1/repos/no'\!", "upload-pack", "no!"),
        ("git-upload-pack '/v1/repos/größe'".encode(), "upload-pack", "größe"),
    ],
)
def test_gits_own_spellings_are_understood(text: bytes, service: str, repository: str) -> None:
    assert parse_command(text) == GitCommand(service, repository)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"git-upload-pack",
        b"git-upload-pack ",
        b"git-upload-pack ''",
        b"git-upload-pack '/v1/repos/'",
        b"git-upload-pack '/v1/repos/a/b'",
        b"git-upload-pack '/v1/repos/../../etc'",
        b"git-upload-pack '~/v1/repos/web'",
        b"git-upload-pack '/v2/repos/web'",
        b"git-upload-pack --strict '/v1/repos/web'",
        b"git-upload-pack '/v1/repos/web' '/v1/repos/api'",
        b"git-upload-pack '/v1/repos/web'; id",
        b"git-upload-pack '/v1/repos/web' && id",
        b"git-upload-pack $(id)",
        b"git-upload-pack `id`",
        b"git-upload-pack '/v1/repos/web",
        b"git-upload-pack '/v1/repos/we\nb'",
        b"git-upload-pack '/v1/repos/we\x1b[2Jb'",
        b"git-upload-pack '/v1/repos/we\x00b'",
        b"git-upload-pack '/v1/repos/\xff'",
        b"git-upload-pack\t'/v1/repos/web'",
        b" git-upload-pack '/v1/repos/web'",
        b"/usr/bin/git-upload-pack '/v1/repos/web'",
        b"sh -c 'git-upload-pack /v1/repos/web'",
        b"git-upload-pack '/v1/repos/" + b"a" * MAX_COMMAND_BYTES + b"'",
    ],
)
def test_everything_else_is_refused(text: bytes) -> None:
    with pytest.raises(CommandRefused):
        parse_command(text)


@given(st.binary(max_size=1200) | st.binary(max_size=60).map(lambda tail: b"git-upload-pack '/v1/repos/" + tail))
def test_any_bytes_are_a_command_or_refused(text: bytes) -> None:
    try:
        command = parse_command(text)
    except CommandRefused:
        return

    assert "/" not in command.repository
    assert command.repository.isprintable()


@given(st.text(st.characters(blacklist_characters="/", blacklist_categories=["C", "Z"]), min_size=1, max_size=60))
def test_any_name_survives_gits_quoting(name: str) -> None:
    text = "/v1/repos/" + name + ".git"
    quoted = "'" + text.replace("'", "'\\''").replace("!", "'\\!'") + "'"

    assert parse_command(f"git-upload-pack {quoted}".encode()).repository == name
