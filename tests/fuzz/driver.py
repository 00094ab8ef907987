"""What fuzz targets share: a stream in pieces, and a way to run with atheris or without."""

import sys
from collections.abc import Callable, Iterator
from random import Random
from types import FunctionType


class Stream:
    """Bytes, no more than so many at once."""

    def __init__(self, data: bytes, piece_bytes: int) -> None:
        self._data, self._at, self._piece_bytes = data, 0, piece_bytes

    def read(self, size: int, /) -> bytes:
        piece = self._data[self._at : self._at + min(size, self._piece_bytes)]
        self._at += len(piece)
        return piece


def run(one_input: Callable[[bytes], None], examples: Callable[[Random], Iterator[bytes]]) -> None:
    """Fuzz until something breaks or is interrupted."""
    try:
        import atheris
    except ImportError:
        sys.stderr.write("atheris is not installed: trying random examples, without looking at coverage\n")
        for example in examples(Random()):
            one_input(example)
    else:
        for function in _functions("gitserver.git."):
            atheris.instrument_func(function)
        atheris.Setup(sys.argv, one_input)
        atheris.Fuzz()


def _functions(prefix: str) -> list[FunctionType]:
    """The functions and methods of the imported modules whose names begin with *prefix*."""
    found: list[FunctionType] = []
    for name, module in list(sys.modules.items()):
        owners = [module, *(value for value in vars(module).values() if isinstance(value, type))]
        for owner in owners if name.startswith(prefix) else ():
            functions = (value for value in vars(owner).values() if isinstance(value, FunctionType))
            found += [function for function in functions if function.__module__ == name]
    return found
