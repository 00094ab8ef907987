"""What the first start tells: who the administrator is, and commands to try, each to be copied as it stands."""

import json
import shlex
import shutil
import sys
from pathlib import Path

from gitserver.config import Config
from gitserver.operations.installation import Installation

_FIRST = "hello"  # the repository that the commands make


def welcome(made: Installation) -> str:
    """The text, with the secrets in it: print it once and keep it nowhere."""
    config, administrator = made.config, made.administrator
    lines = [
        "",
        f"Account {made.account}, region {config.server.region}, in {config.data}",
        f"Keys, which backups do not hold: {config.key_directory} (keep a copy: gitserver keys backup FILE)",
        "",
        "Administrator, shown this once:",
        f"  user name          {administrator.user_name}",
        f"  password           {administrator.password.reveal()}",
        f"  access key id      {administrator.access_key_id}",
        f"  secret access key  {administrator.secret_access_key.reveal()}",
        "They are for the console and the API to come. Git takes a git credential or an SSH key: see below.",
        "",
        f"HTTPS  {config.public_url}   CA file {config.ca_certificate}",
        f"SSH    {config.ssh_url}",
        *(f"  {key.algorithm:<12} {key.fingerprint}" for key in made.ssh_host_keys),
    ]
    for title, block in blocks(config, administrator.user_name, _program()):
        lines += ["", f"{title}:", "", *(f"    {line}" for line in block)]
    return "\n".join([*lines, ""])


def blocks(config: Config, user: str, program: str) -> list[tuple[str, list[str]]]:
    """Titles and shell lines: make a repository, push over HTTPS, push over SSH. They build on one another."""
    data, run = shlex.quote(str(config.data)), shlex.quote(program)
    commit = f"git -c user.name={user} -c user.email={user}@localhost commit -q --allow-empty"
    ssh = f"ssh -i ~/.ssh/gitserver -o IdentitiesOnly=yes -o {_known_hosts_option(config)}"
    return [
        (
            "Make a repository (in another terminal, while the server runs)",
            [f"export GITSERVER_DATA={data}", f"{run} admin create-repository {_FIRST}"],
        ),
        (
            "Push to it over HTTPS",
            [
                f"git init -q -b main {_FIRST} && cd {_FIRST}",
                f"git config http.sslCAInfo {shlex.quote(str(config.ca_certificate))}",
                "git config credential.helper cache",
                f"{run} admin create-git-credential {user} --for-git | git credential approve",
                f'{commit} -m "Hello over HTTPS"',
                f"git push {config.https_clone_url(_FIRST)} main",
            ],
        ),
        (
            "Push to it over SSH",
            [
                "mkdir -p -m 700 ~/.ssh && ssh-keygen -q -t ed25519 -N '' -f ~/.ssh/gitserver",
                f"{run} admin add-ssh-key {user} ~/.ssh/gitserver.pub",
                f"git config core.sshCommand {shlex.quote(ssh)}",
                f'{commit} -m "Hello over SSH"',
                f"git push {config.ssh_clone_url(_FIRST)} main",
            ],
        ),
    ]


def _known_hosts_option(config: Config) -> str:
    """For a shell. ssh parts the value at spaces, unless it is quoted once more."""
    path = str(config.known_hosts)
    return shlex.quote(f"UserKnownHostsFile={path if shlex.quote(path) == path else json.dumps(path)}")


def _program() -> str:
    """The command as a shell finds it from anywhere: its name where that works, else its path."""
    here = Path(sys.executable).with_name("gitserver")
    found = shutil.which("gitserver")
    if not here.exists() or (found and Path(found).resolve() == here.resolve()):
        return "gitserver"
    return str(here)
