"""Dulwich on a command line; see Driven in client.py."""

import argparse
import sys

from dulwich import porcelain
from dulwich.repo import Repo


def main() -> int:
    """Do what the command line says; its exit status."""
    parser = argparse.ArgumentParser()
    verbs = parser.add_subparsers(dest="verb", required=True)
    clone = verbs.add_parser("clone")
    clone.add_argument("--depth", type=int)
    clone.add_argument("url")
    clone.add_argument("directory")
    fetch = verbs.add_parser("fetch")
    fetch.add_argument("--depth", type=int)
    fetch.add_argument("directory")
    push = verbs.add_parser("push")
    push.add_argument("--force", action="store_true")
    push.add_argument("directory")
    push.add_argument("refspecs", nargs="+")
    verbs.add_parser("ls-remote").add_argument("url")
    asked = parser.parse_args()
    if asked.verb == "clone":
        porcelain.clone(asked.url, asked.directory, depth=asked.depth).close()
    elif asked.verb == "fetch":
        _fetch(asked.directory, asked.depth)
    elif asked.verb == "push":
        with Repo(asked.directory) as repository:
            result = porcelain.push(repository, "origin", asked.refspecs, force=asked.force)
        refused = {name: reason for name, reason in (result.ref_status or {}).items() if reason}
        for name, reason in refused.items():
            sys.stderr.write(f"{name.decode()}: {reason}\n")
        return 1 if refused else 0
    else:
        for name, oid in sorted(porcelain.ls_remote(asked.url).refs.items()):
            sys.stdout.write(f"{oid.decode() if oid else ''}\t{name.decode()}\n")
    return 0


def _fetch(directory: str, depth: int | None) -> None:
    """Fetch into refs/remotes/origin, and the tags."""
    with Repo(directory) as repository:
        result = porcelain.fetch(repository, "origin", depth=depth, force=True, include_tags=True)
        for name, oid in result.refs.items():
            if name.startswith(b"refs/tags/") and oid and not name.endswith(b"^{}"):
                repository.refs[name] = oid


if __name__ == "__main__":
    raise SystemExit(main())
