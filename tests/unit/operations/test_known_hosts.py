"""The file that ssh on this machine is given."""

from pathlib import Path

from gitserver import config as configuration
from gitserver.operations.installation import write_known_hosts


def test_known_hosts_follows_the_address_that_people_use(tmp_path: Path) -> None:
    before = configuration.combine(tmp_path, b'[ssh]\nlisten = "127.0.0.1:2222"\n', {})
    after = configuration.combine(tmp_path, b'[ssh]\npublic_url = "ssh://git.example.com"\n', {})

    write_known_hosts(before, ["ssh-ed25519 AAAA"])
    first = before.known_hosts.read_text()
    write_known_hosts(after, ["ssh-ed25519 AAAA", "ssh-rsa BBBB"])

    assert first == "[localhost]:2222 ssh-ed25519 AAAA\n"
    assert after.known_hosts.read_text() == "git.example.com ssh-ed25519 AAAA\ngit.example.com ssh-rsa BBBB\n"
    assert after.known_hosts.stat().st_mode & 0o777 == 0o600
