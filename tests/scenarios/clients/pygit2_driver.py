"""pygit2 on a command line; see Driven in client.py. ``SSH_KEY`` names the private key, ``SSL_CERT_FILE`` the CA."""

import argparse
import os
import sys

import pygit2
from pygit2.enums import CredentialType

_ALL = ["+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*"]


class Answers(pygit2.RemoteCallbacks):
    """What libgit2 asks and tells on the way."""

    def __init__(self) -> None:
        super().__init__()
        self.refused: dict[str, str] = {}

    def credentials(
        self, url: str, username_from_url: str | None, allowed_types: CredentialType
    ) -> pygit2.Keypair | pygit2.Username:
        """The SSH key; libgit2 takes a password from the URL by itself."""
        if allowed_types & CredentialType.SSH_KEY:
            key = os.environ["SSH_KEY"]
            return pygit2.Keypair(username_from_url or "git", key + ".pub", key, "")
        raise pygit2.GitError(f"no credentials of kind {allowed_types}")

    def push_update_reference(self, refname: str, message: str | None) -> None:
        """Note a refused ref."""
        if message is not None:
            self.refused[refname] = message

    def sideband_progress(self, string: str) -> None:
        """Show what the server says."""
        sys.stderr.write(f"remote: {string}")


def main() -> int:
    """Do what the command line says; its exit status."""
    parser = argparse.ArgumentParser()
    verbs = parser.add_subparsers(dest="verb", required=True)
    clone = verbs.add_parser("clone")
    clone.add_argument("--depth", type=int, default=0)
    clone.add_argument("url")
    clone.add_argument("directory")
    fetch = verbs.add_parser("fetch")
    fetch.add_argument("--depth", type=int, default=0)
    fetch.add_argument("directory")
    push = verbs.add_parser("push")
    push.add_argument("--force", action="store_true")
    push.add_argument("directory")
    push.add_argument("refspecs", nargs="+")
    verbs.add_parser("ls-remote").add_argument("url")
    asked = parser.parse_args()
    pygit2.settings.set_ssl_cert_locations(os.environ["SSL_CERT_FILE"], None)
    answers = Answers()
    if asked.verb == "clone":
        pygit2.clone_repository(asked.url, asked.directory, callbacks=answers, depth=asked.depth)
    elif asked.verb == "fetch":
        remote = pygit2.Repository(asked.directory).remotes["origin"]
        remote.fetch(_ALL, callbacks=answers, depth=asked.depth)
    elif asked.verb == "push":
        remote = pygit2.Repository(asked.directory).remotes["origin"]
        remote.push([("+" if asked.force else "") + spec for spec in asked.refspecs], callbacks=answers)
    else:
        _list_refs(asked.url, answers)
    for name, reason in answers.refused.items():
        sys.stderr.write(f"{name}: {reason}\n")
    return 1 if answers.refused else 0


def _list_refs(url: str, answers: Answers) -> None:
    directory = os.path.join(os.environ["HOME"], "nothing.git")  # noqa: PTH118  libgit2 wants a repository to ask from
    remote = pygit2.init_repository(directory, bare=True).remotes.create_anonymous(url)
    for head in remote.list_heads(callbacks=answers):
        sys.stdout.write(f"{head.oid}\t{head.name}\n")


if __name__ == "__main__":
    raise SystemExit(main())
