"""What one pack costs: received in a process of its own, its verdict, peak memory and time printed as JSON.

python -m tests.unit.git.pack_cost FILE
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from gitserver.core.errors import Failure
from gitserver.git.ingest import IncomingPack
from gitserver.git.limits import PackLimits
from gitserver.git.store import ObjectStore
from gitserver.storage.spool import Spool
from tests.unit.git.pack_forge import SPOOL_BYTES

ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Cost:
    """A verdict, and what it took."""

    reason: str  # empty: accepted
    peak_mib: int  # above what the process took before
    cpu_s: float


def cost(directory: Path, pack: bytes, timeout_s: float = 60) -> Cost:
    """Receive *pack* in a process of its own."""
    path = directory / "bomb.pack"
    path.write_bytes(pack)
    command = [sys.executable, "-m", "tests.unit.git.pack_cost", str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=timeout_s, check=False)
    if done.returncode:
        raise AssertionError(done.stderr.decode())
    return Cost(**json.loads(done.stdout))


def _measure(path: Path) -> Cost:
    reason = ""
    before = _peak_kib()
    begun = time.process_time()
    spool = Spool(Path(tempfile.gettempdir()), SPOOL_BYTES)
    incoming = IncomingPack(ObjectStore(()), spool, PackLimits())
    with path.open("rb", buffering=0) as stream, closing(incoming):
        try:
            for _ in incoming.receive(stream):
                pass
            if incoming.absent:
                reason = f"{len(incoming.absent)} objects are nowhere"
        except Failure as failure:
            reason = str(failure)
    return Cost(reason, (_peak_kib() - before) >> 10, time.process_time() - begun)


def _peak_kib() -> int:
    """The most memory that this program has had; unlike getrusage's, not counting the process it was forked from."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


if __name__ == "__main__":
    os.nice(5)
    sys.stdout.write(json.dumps(vars(_measure(Path(sys.argv[1])))))
