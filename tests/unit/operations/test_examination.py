"""What the doctor says of doors that somebody else has."""

import socket
import threading
from pathlib import Path

from gitserver import config as configuration
from gitserver.operations.examination import examine


def test_a_stranger_at_both_doors_is_called_one(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def answer() -> None:
            for _ in range(2):
                connection, _peer = listener.accept()
                with connection:
                    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                    connection.recv(65_536)

        answering = threading.Thread(target=answer)
        answering.start()
        settings = f'[server]\npublic_url = "https://127.0.0.1:{port}"\n[ssh]\npublic_url = "ssh://127.0.0.1:{port}"\n'

        found = list(examine(configuration.combine(tmp_path, settings.encode(), {}), "doors"))
        answering.join(10)

    assert [one.level for one in found] == ["FAIL", "FAIL"]
    assert all(one.fix.startswith("another program has this port") for one in found)
