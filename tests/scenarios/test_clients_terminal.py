"""What people read in their terminal: refusals with a reason, greetings, forgiven spellings; and archives."""

import io
import shlex
import stat
import subprocess
import tarfile
import time
import zipfile
from pathlib import Path

import pytest

from tests.house import Credential, House, Key


@pytest.fixture(scope="module")
def key(house: House) -> Key:
    return house.ssh_key(house.user())


# HTTPS


def test_a_wrong_password_is_told_as_git_tells_it(house: House, stocked: str) -> None:
    wrong = Credential("", house.git_credential(house.user()).user_name, "wrong")

    done = house.git("ls-remote", house.https_url(stocked, wrong), check=False)

    assert done.returncode == 128
    assert "fatal: Authentication failed for" in done.stderr
    assert "remote: the user name or the password is wrong" in done.stderr


def test_without_a_password_git_asks_for_one(house: House, stocked: str) -> None:
    done = house.git("ls-remote", house.https_url(stocked, bare=True), check=False)

    assert done.returncode == 128
    assert "could not read Username" in done.stderr


def test_a_credential_helpers_answer_is_used_and_kept(house: House, stocked: str, tmp_path: Path) -> None:
    shown, store = house.git_credential(), tmp_path / "store"
    store.write_text(f"https://{shown.user_name}:{shown.password}@localhost:{house.https_port}\n".replace("+", "%2B"))
    helper = ("-c", f"credential.helper=store --file={store}")

    done = house.git(*helper, "ls-remote", house.https_url(stocked, bare=True), "HEAD")

    assert done.stdout.endswith("\tHEAD\n")
    assert shown.user_name in store.read_text()


def test_a_revoked_credential_no_longer_works(house: House, stocked: str) -> None:
    user = house.user()
    made = house.services.credentials.create_git_credential(house.caller, user)
    credential = Credential(made.id, made.user_name, made.password.reveal())
    house.git("ls-remote", house.https_url(stocked, credential))

    house.services.credentials.revoke_git_credential(house.caller, user, made.id)

    done = house.git("ls-remote", house.https_url(stocked, credential), check=False)
    assert "Authentication failed" in done.stderr


def test_a_denied_user_reads_who_may_not_do_what(house: House, stocked: str, tmp_path: Path) -> None:
    user = house.user(administrator=False)
    url = house.https_url(stocked, house.git_credential(user))
    house.commit(tmp_path / "work")

    pulled = house.git("ls-remote", url, check=False)
    pushed = house.git("push", url, "main", cwd=tmp_path / "work", check=False)

    for done, action in ((pulled, "codecommit:GitPull"), (pushed, "codecommit:GitPush")):
        assert done.returncode == 128
        assert f"user/{user} is not authorized to perform: {action} on resource: arn:aws:codecommit:" in done.stderr
        assert "remote: " in done.stderr
        assert "error: 403" in done.stderr


def test_a_denied_user_learns_nothing_of_what_exists(house: House, stocked: str) -> None:
    credential = house.git_credential(house.user(administrator=False))

    there, absent = (
        house.git("ls-remote", house.https_url(name, credential), check=False).stderr for name in (stocked, "nowhere")
    )

    assert "error: 403" in absent
    assert there.count("\n") == absent.count("\n")


def test_an_absent_repository_is_told_in_a_sentence(house: House) -> None:
    done = house.git("clone", house.https_url("nowhere"), check=False)

    assert "remote: there is no repository named nowhere" in done.stderr
    assert "not found" in done.stderr


@pytest.mark.parametrize("ending", [".git", "/", ".git/"])
def test_endings_are_forgiven_over_https(house: House, stocked: str, ending: str) -> None:
    assert house.git("ls-remote", house.https_url(stocked + ending), "HEAD").stdout.endswith("\tHEAD\n")


def test_gits_old_protocol_is_refused_with_a_sentence(house: House, stocked: str) -> None:
    done = house.git("ls-remote", house.https_url(stocked), check=False, environment={"GIT_SMART_HTTP": "0"})

    assert done.returncode == 128
    assert "smart HTTP protocol only" in done.stderr


# SSH


@pytest.mark.parametrize("ending", ["", ".git", "/", ".git/"])
def test_endings_are_forgiven_over_ssh(house: House, stocked: str, key: Key, ending: str) -> None:
    assert house.git("ls-remote", house.ssh_url(stocked + ending), "HEAD", key=key).stdout.endswith("\tHEAD\n")


def test_the_id_of_the_key_is_a_user_name_too(house: House, stocked: str, key: Key) -> None:
    assert house.git("ls-remote", house.ssh_url(stocked, key), "HEAD", key=key).stdout.endswith("\tHEAD\n")


def test_a_login_without_a_command_is_greeted_by_name(house: House, key: Key) -> None:
    command = ["ssh", *house.ssh_options(key), "-T", "-p", str(house.ssh_port), "git@localhost"]

    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=30)

    assert done.returncode == 0
    assert done.stdout.startswith("Hello user-")
    assert key.id in done.stdout


def test_one_connection_carries_many_commands(house: House, stocked: str, key: Key, tmp_path: Path) -> None:
    shared = ["-o", f"ControlPath={house.home}/control", "-o", "ControlMaster=auto"]
    master = ["ssh", *house.ssh_options(key), *shared, "-N", "-p", str(house.ssh_port), "git@localhost"]
    with subprocess.Popen(master, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
        try:
            _wait_for(house.home / "control")
            ssh = {"GIT_SSH_COMMAND": shlex.join(["ssh", *house.ssh_options(), *shared])}  # no key: the master's only
            heads = [house.git("ls-remote", house.ssh_url(stocked), "HEAD", environment=ssh).stdout for _ in range(3)]
            house.git("clone", "-q", house.ssh_url(stocked), str(tmp_path / "clone"), environment=ssh)
        finally:
            running.terminate()

    assert len(set(heads)) == 1
    assert (tmp_path / "clone" / "big.bin").stat().st_size == 3_000_000


def test_a_denied_user_reads_why_over_ssh(house: House, stocked: str) -> None:
    user = house.user(administrator=False)

    done = house.git("ls-remote", house.ssh_url(stocked), key=house.ssh_key(user), check=False)

    assert done.returncode == 128
    assert f"user/{user} is not authorized to perform: codecommit:GitPull" in done.stderr


def test_an_absent_repository_is_told_over_ssh(house: House, key: Key) -> None:
    done = house.git("ls-remote", house.ssh_url("nowhere"), key=key, check=False)

    assert "there is no repository named nowhere" in done.stderr


def test_a_revoked_key_no_longer_opens(house: House, stocked: str) -> None:
    user = house.user()
    key = house.ssh_key(user)
    house.git("ls-remote", house.ssh_url(stocked), key=key)

    house.services.credentials.revoke_ssh_key(house.caller, user, key.id)

    done = house.git("ls-remote", house.ssh_url(stocked), key=key, check=False)
    assert "Permission denied (publickey)" in done.stderr


# Archives


def archive(house: House, key: Key, repository: str, *arguments: str) -> bytes:
    """The bytes of ``git archive --remote``."""
    done = subprocess.run(
        ["git", "archive", f"--remote={house.ssh_url(repository)}", *arguments],
        env=house.client_environment(key),
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def local(sample: Path, *arguments: str) -> bytes:
    """The bytes of ``git archive`` on this machine."""
    return subprocess.run(["git", "archive", *arguments], cwd=sample, capture_output=True, check=True).stdout


Members = dict[str, tuple[int, int, str, int, bytes | None]]


def members(data: bytes) -> Members:
    """What is in a tar file."""
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        found = {}
        for member in tar:
            opened = tar.extractfile(member) if member.isfile() else None
            content = opened.read() if opened else None
            found[member.name] = (int(member.mode), member.size, member.linkname, int(member.mtime), content)
        return found


def _undated(found: Members) -> Members:
    return {name: (*one[:3], 0, one[4]) for name, one in found.items()}


@pytest.mark.parametrize(
    "arguments",
    [
        ("main",),
        ("v2.0-signed-off",),
        ("--prefix=release/", "v1.0"),
        ("main", "src/package1", "bin/run"),
        ("main:src",),
    ],
    ids=["branch", "tag", "prefix", "paths", "subtree"],
)
def test_a_tar_holds_what_git_would_put_in_it(
    house: House, key: Key, stocked: str, sample: Path, arguments: tuple[str, ...]
) -> None:
    ours = members(archive(house, key, stocked, "--format=tar", *arguments))

    theirs = members(local(sample, "--format=tar", *arguments))
    if arguments == ("main:src",):  # a tree has no date: git takes the present
        ours, theirs = _undated(ours), _undated(theirs)
    assert ours == theirs


def test_a_tar_may_be_compressed(house: House, key: Key, stocked: str, sample: Path) -> None:
    ours = members(archive(house, key, stocked, "--format=tar.gz", "main"))

    assert ours == members(local(sample, "--format=tar", "main"))


def test_a_zip_holds_what_git_would_put_in_it(house: House, key: Key, stocked: str, sample: Path) -> None:
    def files(data: bytes) -> dict[str, tuple[bool, bool, bytes]]:
        with zipfile.ZipFile(io.BytesIO(data)) as opened:
            assert opened.testzip() is None
            assert opened.comment == commit
            found = {}
            for info in opened.infolist():
                mode = info.external_attr >> 16  # git leaves it out for plain files
                found[info.filename] = (stat.S_ISLNK(mode), bool(mode & 0o111 and not info.is_dir()), opened.read(info))
            return found

    commit = subprocess.run(["git", "rev-parse", "main"], cwd=sample, capture_output=True, check=True).stdout.strip()

    ours = files(archive(house, key, stocked, "--format=zip", "main"))

    assert ours == files(local(sample, "--format=zip", "main"))


def test_the_formats_are_listed(house: House, key: Key, stocked: str) -> None:
    assert archive(house, key, stocked, "--list").split() == [b"tar", b"tgz", b"tar.gz", b"zip"]


def test_an_archive_of_what_is_not_there_says_so(house: House, key: Key, stocked: str) -> None:
    done = house.git("archive", f"--remote={house.ssh_url(stocked)}", "nothing", key=key, check=False)

    assert done.returncode != 0
    assert "nothing" in done.stderr


def _wait_for(path: Path) -> None:
    deadline = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} does not appear"
        time.sleep(0.01)
