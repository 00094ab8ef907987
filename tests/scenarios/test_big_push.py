"""A push and a clone of large files take little memory, over both doors: resident memory never passes 200 MiB."""

import re
import secrets
import time
from pathlib import Path

import pytest

from tests.house import House
from tests.scenarios.conftest import NewHouse
from tests.scenarios.torture import LONG, tell, times

pytestmark = [pytest.mark.torture, pytest.mark.timeout(14_400 if LONG else 300)]

FILES = times(6, 30)
FILE_BYTES = 10_500_000  # 63 MB in CI, 315 MB in the long version
RESIDENT_MIB = 200


@pytest.mark.parametrize("door", ["https", "ssh"])
def test_no_process_grows_while_large_files_are_pushed_and_cloned(
    new_house: NewHouse, tmp_path: Path, door: str
) -> None:
    house = new_house()
    key, repository, work = house.ssh_key(), house.repository(), tmp_path / "work"
    url = house.https_url(repository) if door == "https" else house.ssh_url(repository)
    make_quick(house, work)
    for number in range(FILES):
        house.commit(work, {f"file-{number}": secrets.token_bytes(FILE_BYTES)})
    size_mb = FILES * FILE_BYTES / 1e6

    began = time.monotonic()
    house.git("push", "-q", url, "main", cwd=work, key=key, timeout_s=600)
    push_s, pushed = time.monotonic() - began, resident_mib(house)
    began = time.monotonic()
    house.git("clone", "-q", "--bare", url, str(tmp_path / "clone"), key=key, timeout_s=600)
    clone_s, cloned = time.monotonic() - began, resident_mib(house)

    tell(
        f"{size_mb:.0f} MB over {door}: pushed at {size_mb / push_s:.0f} MB/s, cloned at {size_mb / clone_s:.0f} MB/s"
        f" (git's own work included); largest process {max(pushed.values())} MiB after the push,"
        f" {max(cloned.values())} MiB after the clone"
    )
    house.git("fsck", "--full", "--strict", cwd=tmp_path / "clone", timeout_s=600)
    assert (
        house.git("rev-parse", "HEAD", cwd=tmp_path / "clone").stdout == house.git("rev-parse", "HEAD", cwd=work).stdout
    )
    assert max(cloned.values()) < RESIDENT_MIB, cloned


def test_one_large_file_takes_no_more_memory_than_many(new_house: NewHouse, tmp_path: Path) -> None:
    house = new_house()
    repository, work = house.repository(), tmp_path / "work"
    make_quick(house, work)
    house.commit(work, {"large": secrets.token_bytes(FILES * FILE_BYTES)})

    house.git("push", "-q", house.https_url(repository), "main", cwd=work, timeout_s=600)
    house.git("clone", "-q", "--bare", house.https_url(repository), str(tmp_path / "clone"), timeout_s=600)

    grown = resident_mib(house)
    tell(f"one file of {FILES * FILE_BYTES / 1e6:.0f} MB: largest process {max(grown.values())} MiB")
    assert max(grown.values()) < RESIDENT_MIB, grown


def make_quick(house: House, work: Path) -> None:
    """A work tree whose git tries neither to compress what is random nor to find deltas: the server is measured."""
    house.git("init", "-q", str(work))
    house.git("config", "core.compression", "0", cwd=work)
    house.git("config", "core.bigFileThreshold", "1m", cwd=work)


def resident_mib(house: House) -> dict[str, int]:
    """The most memory each process of the server ever had resident."""
    found = {}
    for process, command in house.processes().items():
        status = Path(f"/proc/{process}/status").read_text()
        match = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
        assert match, f"{command} tells no VmHWM"
        role = re.search(r"roles (\w+)", command)
        found[f"{role[1] if role else 'supervisor'} {process}"] = int(match[1]) // 1024
    return found
