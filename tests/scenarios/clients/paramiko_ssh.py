"""An SSH client made of paramiko, for ``GIT_SSH_COMMAND``.

python paramiko_ssh.py KNOWN_HOSTS PRIVATE_KEY [-o SendEnv=GIT_PROTOCOL] [-p PORT] USER@HOST COMMAND
"""

import os
import sys
import threading
from typing import BinaryIO

import paramiko

_PIECE_BYTES = 1 << 17


def main(known_hosts: str, private_key: str, *arguments: str) -> int:
    """Run one command at the server; its exit status."""
    words = list(arguments)
    port, environment = 22, {}
    while words[0].startswith("-"):
        option, value = words.pop(0), words.pop(0)
        if option == "-p":
            port = int(value)
        elif value == "SendEnv=GIT_PROTOCOL":
            environment["GIT_PROTOCOL"] = os.environ["GIT_PROTOCOL"]
        else:
            raise SystemExit(f"this SSH client does not know {option} {value}")
    user, _, host = words[0].rpartition("@")
    with paramiko.SSHClient() as client:
        client.load_host_keys(known_hosts)
        client.set_missing_host_key_policy(paramiko.RejectPolicy())
        client.connect(host, port, user, key_filename=private_key, allow_agent=False, look_for_keys=False, timeout=30)
        transport = client.get_transport()
        assert transport is not None
        channel = transport.open_session()
        channel.update_environment(environment)
        channel.exec_command(words[1])
        return _carry(channel)


def _carry(channel: paramiko.Channel) -> int:
    threading.Thread(target=_send, args=(channel,), daemon=True).start()
    errors = threading.Thread(target=_copy, args=(channel.makefile_stderr("rb", 0), sys.stderr.buffer))
    errors.start()
    while piece := channel.recv(_PIECE_BYTES):
        sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()
    errors.join()
    status: int = channel.recv_exit_status()
    return status


def _send(channel: paramiko.Channel) -> None:
    try:
        while piece := os.read(0, _PIECE_BYTES):
            channel.sendall(piece)
        channel.shutdown_write()
    except OSError:
        pass  # the server has ended the command; its status says why


def _copy(source: BinaryIO, target: BinaryIO) -> None:
    while piece := source.read(4096):
        target.write(piece)
        target.flush()


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
