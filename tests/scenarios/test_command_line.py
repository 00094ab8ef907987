"""The command line as an operator meets it: what it prints, where, and how it ends."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

from tests.house import ACCOUNT, House
from tests.scenarios.conftest import NewHouse

COMMANDS = [
    [],
    ["admin"],
    ["admin", "create-account"],
    ["admin", "list-accounts"],
    ["admin", "create-repository"],
    ["admin", "list-repositories"],
    ["admin", "delete-repository"],
    ["admin", "create-user"],
    ["admin", "list-users"],
    ["admin", "delete-user"],
    ["admin", "add-ssh-key"],
    ["admin", "list-ssh-keys"],
    ["admin", "revoke-ssh-key"],
    ["admin", "create-git-credential"],
    ["admin", "list-git-credentials"],
    ["admin", "revoke-git-credential"],
    ["admin", "create-access-key"],
    ["admin", "list-access-keys"],
    ["admin", "revoke-access-key"],
    ["admin", "journal"],
    ["admin", "set-rules"],
    ["backup"],
    ["completion"],
    ["db"],
    ["db", "upgrade"],
    ["doctor"],
    ["init"],
    ["keys"],
    ["keys", "backup"],
    ["keys", "path"],
    ["keys", "renew-certificate"],
    ["keys", "restore"],
    ["keys", "rotate"],
    ["restore"],
    ["serve"],
    ["verify"],
]


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> House:
    """A data directory that nothing serves."""
    return House(tmp_path_factory.mktemp("still"), start=False)


def made_at(root: Path) -> House:
    """A data directory that belongs to the test."""
    return House(root, start=False)


# Help, usage, output


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_explains_itself(words: list[str]) -> None:
    from click.testing import CliRunner

    from gitserver.cli.main import gitserver

    result = CliRunner().invoke(gitserver, [*words, "--help"])

    assert result.exit_code == 0
    assert "Usage:" in result.output
    assert len(result.output.splitlines()) >= 5


def test_no_command_is_missing_from_the_list_above() -> None:
    import click

    from gitserver.cli.main import gitserver

    def walk(command: click.Command, path: list[str]) -> list[list[str]]:
        if not isinstance(command, click.Group):
            return [path]
        context = click.Context(command)
        below = [
            walk(found, [*path, name])
            for name in command.list_commands(context)
            if (found := command.get_command(context, name))
        ]
        return [path, *(one for many in below for one in many)]

    assert sorted(walk(gitserver, [])) == sorted(COMMANDS)


def test_a_mistyped_command_is_a_usage_error(still: House) -> None:
    done = still.cli("admin", "create-repo", check=False)

    assert done.returncode == 2
    assert "No such command" in done.stderr


def test_a_command_without_a_data_directory_says_how_to_name_it(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "GITSERVER_DATA"}
    command = [sys.executable, "-m", "gitserver", "doctor"]

    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert "--data" in done.stderr


def test_a_directory_that_is_not_ours_is_refused_with_the_command_that_makes_one(still: House, tmp_path: Path) -> None:
    done = still.cli("doctor", data=tmp_path, check=False)

    assert done.returncode == 3
    assert f"gitserver init --data {tmp_path}" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_traceback_is_shown_only_when_asked_for(still: House, tmp_path: Path) -> None:
    done = still.cli("doctor", "--debug", data=tmp_path, check=False)

    assert "Traceback" in done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_its_completion_script(still: House, shell: str) -> None:
    done = still.cli("completion", shell)

    assert "_GITSERVER_COMPLETE" in done.stdout


# init


def test_init_prints_one_json_object_with_everything_a_script_needs(still: House) -> None:
    made = still.made

    assert made["account"] == ACCOUNT
    assert made["region"] == "us-east-1"
    assert set(made["administrator"]) == {"user_name", "password", "access_key_id", "secret_access_key"}
    assert made["administrator"]["access_key_id"].startswith("AKIA")
    assert made["https_url"] == "https://localhost:8443"
    assert made["ssh_url"].startswith("ssh://localhost:")
    assert Path(made["ca_file"]).read_text().startswith("-----BEGIN CERTIFICATE-----")
    assert [key["fingerprint"][:7] for key in made["ssh_host_keys"]] == ["SHA256:", "SHA256:"]


def test_init_closes_what_it_makes_to_others(still: House) -> None:
    keys = still.data.with_name("data.keys")
    modes = {path: path.stat().st_mode & 0o777 for path in (still.data, keys, keys / "master.key")}

    private = [path for path in keys.rglob("*") if path.is_file() and path.suffix != ".pub"]

    assert list(modes.values()) == [0o700, 0o700, 0o600]
    assert all(path.stat().st_mode & 0o077 == 0 for path in private)


def test_init_writes_down_where_it_put_the_keys(tmp_path: Path) -> None:
    elsewhere = str(tmp_path / "elsewhere")

    made = House(tmp_path / "made", settings={"GITSERVER_KEYS_DIRECTORY": elsewhere}, start=False)

    settings = tomllib.loads((made.data / "gitserver.toml").read_text())
    assert settings["keys"]["directory"] == elsewhere
    assert (tmp_path / "elsewhere" / "master.key").exists()


def test_init_leaves_a_directory_that_holds_something_alone(still: House, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")

    done = still.cli("init", data=tmp_path, check=False)

    assert done.returncode == 3
    assert "is not empty and was left as it is" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_init_leaves_keys_that_belong_to_another_server_alone(still: House, tmp_path: Path) -> None:
    (tmp_path / "new.keys").mkdir()
    (tmp_path / "new.keys" / "master.key").write_text("precious")

    done = still.cli("init", data=tmp_path / "new", check=False)

    assert done.returncode == 3
    assert not (tmp_path / "new").exists()
    assert (tmp_path / "new.keys" / "master.key").read_text() == "precious"


def test_init_does_not_touch_a_data_directory_that_is_in_use(still: House) -> None:
    before = sorted(path.stat().st_mtime_ns for path in still.data.rglob("*"))

    done = still.cli("init", check=False)

    assert done.returncode == 3
    assert "is a gitserver data directory already" in done.stderr
    assert sorted(path.stat().st_mtime_ns for path in still.data.rglob("*")) == before


@pytest.mark.parametrize("delay_s", [0.45, 0.7, 0.95])
def test_an_init_that_was_killed_is_run_again(still: House, tmp_path: Path, delay_s: float) -> None:
    data = tmp_path / "data"
    command = [sys.executable, "-m", "gitserver", "init", "--data", str(data)]
    first = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(delay_s)
    first.kill()
    first.wait()
    if not (data / ".being-made").exists():
        shutil.rmtree(data, ignore_errors=True)  # it had not begun, or was done
        shutil.rmtree(tmp_path / "data.keys", ignore_errors=True)

    refused = still.cli("admin", "list-users", data=data, check=False)
    again = still.cli("init", data=data)

    assert refused.returncode == 3
    assert again.returncode == 0
    assert "admin" in still.cli("admin", "list-users", "--account", _account(data), data=data).stdout


def _account(data: Path) -> str:
    line = next(line for line in (data / "gitserver.toml").read_text().splitlines() if line.startswith("account"))
    return line.split('"')[1]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--account", "12"], "an account id is twelve digits"),
        (["--region", "Mars"], "expected a region like us-east-1"),
        (["--public-url", "http://x"], "expected https://HOST"),
        (["--database", "mysql://x"], "expected sqlite:"),
    ],
)
def test_init_refuses_a_wrong_wish_before_it_makes_anything(
    still: House, tmp_path: Path, arguments: list[str], sentence: str
) -> None:
    done = still.cli("init", *arguments, data=tmp_path / "new", check=False)

    assert done.returncode in {1, 3}
    assert sentence in done.stderr
    assert not (tmp_path / "new").exists()


# Modes and keys


def test_an_open_data_directory_is_refused_with_the_command_that_closes_it(tmp_path: Path) -> None:
    house = made_at(tmp_path / "house")
    house.data.chmod(0o755)

    done = house.cli("serve", check=False)

    assert done.returncode == 3
    assert f"chmod 700 {house.data}" in done.stderr


def test_an_open_master_key_is_refused_with_the_command_that_closes_it(tmp_path: Path) -> None:
    house = made_at(tmp_path / "house")
    master = tmp_path / "house" / "data.keys" / "master.key"
    master.chmod(0o640)

    done = house.cli("serve", check=False)

    assert done.returncode == 3
    assert f"chmod 600 {master}" in done.stderr


def test_a_missing_master_key_is_refused_with_where_to_bring_it_back(tmp_path: Path) -> None:
    house = made_at(tmp_path / "house")
    (tmp_path / "house" / "data.keys" / "master.key").unlink()

    done = house.cli("serve", check=False)

    assert done.returncode == 3
    assert "gitserver keys restore FILE" in done.stderr


def test_another_servers_master_key_is_refused(still: House, tmp_path: Path) -> None:
    house = made_at(tmp_path / "house")
    shutil.copy2(still.data.with_name("data.keys") / "master.key", tmp_path / "house" / "data.keys" / "master.key")

    done = house.cli("admin", "list-users", check=False)

    assert done.returncode == 3
    assert "is not the master key" in done.stderr


# admin


def test_a_repository_is_made_listed_and_deleted(still: House) -> None:
    made = json.loads(still.cli("admin", "create-repository", "web", "--json").stdout)
    listed = json.loads(still.cli("admin", "list-repositories", "--json").stdout)
    still.cli("admin", "delete-repository", "web", "--yes")
    left = json.loads(still.cli("admin", "list-repositories", "--json").stdout)

    assert made["https_url"].endswith("/v1/repos/web")
    assert [one["name"] for one in listed["repositories"]] == ["web"]
    assert left == {"repositories": []}


def test_deleting_a_repository_asks_first(still: House) -> None:
    still.cli("admin", "create-repository", "kept")

    done = still.cli("admin", "delete-repository", "kept", stdin="n\n", check=False)

    assert done.returncode == 130
    assert "kept" in still.cli("admin", "list-repositories").stdout


def test_a_repositorys_rules_are_set_one_by_one(still: House) -> None:
    still.cli("admin", "create-repository", "ruled")

    still.cli("admin", "set-rules", "ruled", "--deny-non-fast-forwards")
    shown = json.loads(still.cli("admin", "set-rules", "ruled", "--deny-deletes", "--json").stdout)

    assert shown == {"name": "ruled", "deny_non_fast_forwards": True, "deny_deletes": True}


def test_a_failure_is_one_sentence_and_exit_code_1(still: House) -> None:
    done = still.cli("admin", "delete-repository", "nowhere", "--yes", check=False)

    assert done.returncode == 1
    assert done.stderr.startswith("Error: ")
    assert len(done.stderr.splitlines()) == 1


def test_a_users_credentials_are_made_listed_and_revoked(still: House, tmp_path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key"], check=True)
    still.cli("admin", "create-user", "alice")

    key = json.loads(still.cli("admin", "add-ssh-key", "alice", str(tmp_path / "key.pub"), "--json").stdout)
    credential = json.loads(still.cli("admin", "create-git-credential", "alice", "--json").stdout)
    keys = still.cli("admin", "list-ssh-keys", "alice").stdout
    credentials = still.cli("admin", "list-git-credentials", "alice").stdout
    still.cli("admin", "revoke-ssh-key", "alice", key["ssh_public_key_id"])
    still.cli("admin", "revoke-git-credential", "alice", credential["id"])

    assert key["ssh_public_key_id"].startswith("APKA")
    assert key["fingerprint"].startswith("SHA256:")
    assert credential["user_name"] == f"alice-at-{ACCOUNT}"
    assert key["ssh_public_key_id"] in keys
    assert credential["user_name"] in credentials
    assert credential["password"] not in credentials
    assert json.loads(still.cli("admin", "list-ssh-keys", "alice", "--json").stdout) == {"ssh_keys": []}
    assert json.loads(still.cli("admin", "list-git-credentials", "alice", "--json").stdout) == {"git_credentials": []}


def test_a_private_key_given_by_mistake_is_refused(still: House, tmp_path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key"], check=True)

    done = still.cli("admin", "add-ssh-key", "admin", str(tmp_path / "key"), check=False)

    assert done.returncode == 2
    assert "is a private key; keep it to yourself" in done.stderr


def test_another_account_is_made_and_acted_in(still: House) -> None:
    made = json.loads(still.cli("admin", "create-account", "--name", "second", "--json").stdout)

    still.cli("admin", "create-repository", "theirs", "--account", made["account"])

    assert "theirs" in still.cli("admin", "list-repositories", "--account", made["account"]).stdout
    assert "theirs" not in still.cli("admin", "list-repositories").stdout


def test_the_journal_tells_what_the_command_line_changed(still: House) -> None:
    still.cli("admin", "create-user", "mallory")

    lines = [json.loads(line) for line in still.cli("admin", "journal", "--json").stdout.splitlines()]

    made = [line for line in lines if line["event"] == "UserCreated" and line["resource"].endswith("user/mallory")]
    assert [line["method"] for line in made] == ["local"]
    assert "UserCreated" in still.cli("admin", "journal", "--event", "UserCreated").stdout


# serve


def test_a_second_full_server_on_one_directory_is_refused(house: House) -> None:
    done = house.cli("serve", "--https", "127.0.0.1:0", "--ssh", "127.0.0.1:0", check=False)

    assert done.returncode == 3
    assert "another gitserver is running on" in done.stderr


def test_a_server_of_one_role_beside_a_full_one_is_refused(house: House) -> None:
    done = house.cli("serve", "--only", "ssh", "--ssh", "127.0.0.1:0", check=False)

    assert done.returncode == 3
    assert "a full server is running on" in done.stderr


def test_the_roles_of_one_server_run_apart_and_serve_together(tmp_path: Path) -> None:
    house = made_at(tmp_path / "house")
    roles: list[subprocess.Popen[bytes]] = []
    bound: dict[str, object] = {}
    for role in ("http", "ssh", "worker"):
        ready = tmp_path / f"{role}.json"
        doors = ["--https", "127.0.0.1:0", "--ssh", "127.0.0.1:0"]
        command = [sys.executable, "-m", "gitserver", "serve", "--data", str(house.data), "--only", role]
        roles.append(subprocess.Popen([*command, *doors, "--ready-file", str(ready)], stderr=subprocess.DEVNULL))
        deadline = time.monotonic() + 30
        while not ready.exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        bound |= json.loads(ready.read_text())

    full = house.cli("serve", check=False)
    for role_process in roles:
        role_process.terminate()

    assert [role_process.wait(30) for role_process in roles] == [0, 0, 0]
    assert {"http", "ssh"} <= set(bound)
    assert full.returncode == 3


def test_a_port_that_is_taken_ends_the_start_with_a_sentence(still: House) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"

        done = still.cli("serve", "--ssh", address, "--https", "127.0.0.1:0", check=False)

    assert done.returncode == 1
    assert f"cannot listen on {address}" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_server_killed_with_all_its_processes_serves_again_within_two_seconds(new_house: NewHouse) -> None:
    house = new_house()
    name = house.repository()

    house.kill9()
    took_s = house.restart()
    used_s = house.cpu_s()

    assert min(took_s, used_s) < 2  # the machine has two cores, and may be busy with other tests
    house.git("ls-remote", house.https_url(name))


def test_no_process_outlives_a_supervisor_that_was_killed(new_house: NewHouse) -> None:
    house = new_house()
    house.git("ls-remote", house.https_url(house.repository()))
    processes = list(house.processes())

    os.kill(house.process_id, 9)

    deadline = time.monotonic() + 5
    while any(_runs(one) for one in processes) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(_runs(one) for one in processes)
    house.kill9()


def test_a_door_that_crashed_is_open_again_soon(new_house: NewHouse) -> None:
    house = new_house()
    name, key = house.repository(), house.ssh_key()
    ssh = next(number for number, command in house.processes().items() if "roles ssh" in command)

    os.kill(ssh, 9)

    deadline = time.monotonic() + 10
    while house.git("ls-remote", house.ssh_url(name), key=key, check=False).returncode and time.monotonic() < deadline:
        time.sleep(0.1)
    house.git("ls-remote", house.ssh_url(name), key=key)


def test_a_server_told_to_stop_ends_with_0(new_house: NewHouse) -> None:
    house = new_house()

    code = house.stop()

    assert code == 0
    assert "Traceback" not in house.log


def _runs(process: int) -> bool:
    try:
        return not Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2].startswith("Z")
    except (FileNotFoundError, ProcessLookupError):
        return False


# doctor, verify, backup, keys


def test_the_doctor_finds_a_running_server_healthy(house: House) -> None:
    done = house.cli("doctor", "--json", check=False)

    found = json.loads(done.stdout)
    assert [one for one in found["findings"] if one["level"] == "FAIL"] == []
    assert done.returncode == 0
    assert {one["check"] for one in found["findings"]} == {
        "permissions", "keys", "database", "blobs", "disk", "clock", "tls", "ports", "doors"
    }  # fmt: skip


def test_the_doctor_says_how_to_mend_each_thing_it_finds(tmp_path: Path) -> None:
    house = made_at(tmp_path / "house")
    house.data.chmod(0o711)
    (tmp_path / "house" / "data.keys" / "tls" / "server.key").unlink()

    done = house.cli("doctor", "--json", check=False)

    failed = [one for one in json.loads(done.stdout)["findings"] if one["level"] == "FAIL"]
    assert done.returncode == 1
    assert {"permissions", "tls", "doors"} <= {one["check"] for one in failed}
    assert all(one["fix"] for one in failed)


def test_a_backup_made_while_pushes_go_on_is_restored_and_sound(new_house: NewHouse, tmp_path: Path) -> None:
    house = new_house()
    name, work = house.repository(), tmp_path / "work"
    first = house.commit(work)
    house.git("push", "-q", house.https_url(name), "main", cwd=work)
    push = f"git commit -q --allow-empty -m more && git push -q {house.https_url(name)} main"
    pushing = subprocess.Popen(
        ["sh", "-c", f"for i in 1 2 3 4 5 6; do {push} || exit; done"], cwd=work, env=house.client_environment()
    )

    house.cli("backup", str(tmp_path / "backup"))
    assert pushing.wait(60) == 0
    house.cli("keys", "backup", str(tmp_path / "keys.tar"))
    restored = tmp_path / "restored"
    house.cli("restore", str(tmp_path / "backup"), "--keys", str(tmp_path / "keys.tar"), data=restored)
    done = house.cli("verify", "--json", data=restored)

    assert json.loads(done.stdout)["problems"] == []
    assert json.loads(done.stdout)["blobs"] >= 1
    assert first
    assert (tmp_path / "keys.tar").stat().st_mode & 0o777 == 0o600
    assert not [path for path in (tmp_path / "backup").rglob("*") if path.suffix == ".key"]


def test_a_damaged_backup_is_not_restored(still: House, tmp_path: Path) -> None:
    still.cli("backup", str(tmp_path / "backup"))
    with (tmp_path / "backup" / "gitserver.db").open("r+b") as file:
        file.seek(5000)
        file.write(b"!")

    done = still.cli("restore", str(tmp_path / "backup"), data=tmp_path / "restored", check=False)

    assert done.returncode == 1
    assert "gitserver.db is not what was backed up" in done.stderr
    assert still.cli("doctor", data=tmp_path / "restored", check=False).returncode != 0


def test_a_restored_directory_without_keys_says_how_to_bring_them(still: House, tmp_path: Path) -> None:
    still.cli("backup", str(tmp_path / "backup"))
    still.cli("keys", "backup", str(tmp_path / "keys.tar"))
    restored = tmp_path / "restored"
    still.cli("restore", str(tmp_path / "backup"), data=restored)

    refused = still.cli("admin", "list-users", data=restored, check=False)
    still.cli("keys", "restore", str(tmp_path / "keys.tar"), data=restored)

    assert refused.returncode == 3
    assert "gitserver keys restore FILE" in refused.stderr
    assert "admin" in still.cli("admin", "list-users", data=restored).stdout


def test_verify_names_the_repository_whose_blob_was_changed(new_house: NewHouse, tmp_path: Path) -> None:
    house = new_house()
    good, bad, work = house.repository(), house.repository(), tmp_path / "work"
    house.commit(work)
    before = set(_blobs(house))
    house.git("push", "-q", house.https_url(bad), "main", cwd=work)
    blob = next(iter(set(_blobs(house)) - before))
    house.git("push", "-q", house.https_url(good), "main", cwd=work)
    data = bytearray(blob.read_bytes())
    data[len(data) // 2] ^= 1
    blob.chmod(0o600)
    blob.write_bytes(data)

    everything = house.cli("verify", check=False)
    one = house.cli("verify", good, check=False)

    assert everything.returncode == 1
    assert bad in everything.stdout
    assert good not in everything.stdout
    assert one.returncode == 0


def _blobs(house: House) -> list[Path]:
    return [path for path in (house.data / "blobs").rglob("*") if path.is_file()]


def test_the_master_key_is_rotated_while_the_server_runs(new_house: NewHouse, tmp_path: Path) -> None:
    house = new_house()
    name, work = house.repository(), tmp_path / "work"
    house.commit(work)
    house.git("push", "-q", house.https_url(name), "main", cwd=work)
    before = (house.root / "data.keys" / "master.key").read_bytes()

    house.cli("keys", "rotate")

    assert (house.root / "data.keys" / "master.key").read_bytes() != before
    house.git("clone", "-q", house.https_url(name), str(tmp_path / "clone"))
    other = house.repository()
    house.git("push", "-q", house.https_url(other), "main", cwd=work)


def test_a_copy_of_the_keys_does_not_replace_a_file(still: House, tmp_path: Path) -> None:
    (tmp_path / "keys.tar").write_text("something else")

    done = still.cli("keys", "backup", str(tmp_path / "keys.tar"), check=False)

    assert done.returncode == 1
    assert (tmp_path / "keys.tar").read_text() == "something else"


def test_a_copy_of_the_keys_makes_the_directory_it_goes_to(still: House, tmp_path: Path) -> None:
    still.cli("keys", "backup", str(tmp_path / "elsewhere" / "today" / "keys.tar"))

    assert (tmp_path / "elsewhere" / "today" / "keys.tar").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "elsewhere" / "today").stat().st_mode & 0o777 == 0o700


def test_a_lost_master_key_comes_back_as_the_messages_say(new_house: NewHouse, tmp_path: Path) -> None:
    house = new_house()
    keys = house.root / "data.keys"
    house.cli("keys", "backup", str(tmp_path / "keys.tar"))
    (keys / "master.key").unlink()

    examined = house.cli("doctor", "--only", "keys", check=False)
    refused = house.cli("keys", "restore", str(tmp_path / "keys.tar"), check=False)
    keys.rename(f"{keys}.old")
    house.cli("keys", "restore", str(tmp_path / "keys.tar"))

    assert "fix: bring it back from your key backup with: gitserver keys restore FILE" in examined.stdout
    assert refused.returncode == 3
    assert f"move it aside first: mv {keys} {keys}.old" in refused.stderr
    assert house.cli("doctor", "--only", "keys").returncode == 0


def test_the_doctor_names_a_file_that_is_missing(tmp_path: Path) -> None:
    house = made_at(tmp_path / "house")
    key = tmp_path / "house" / "data.keys" / "tls" / "server.key"
    key.unlink()

    done = house.cli("doctor", "--only", "tls", check=False)

    assert f"{key} is missing" in done.stdout
    assert "gitserver keys restore FILE" in done.stdout


def test_a_database_that_is_up_to_date_is_left_alone(still: House) -> None:
    done = still.cli("db", "upgrade")

    assert "already" in done.stderr
