"""A request body as a stream that cannot end early unnoticed.

Every reader here keeps the promise of ``gitserver.git.protocol.Reader``: 1 to n bytes, empty only at the true end.
A body that stops short, dawdles, is too long or does not inflate *must* raise; it *must not* look finished.
"""

import zlib
from collections.abc import Iterator
from typing import Protocol

from gitserver.core.errors import Failure, Invalid, TooMuch

PIECE_BYTES = 65536


class BodyCutShort(Invalid):
    """The client went away, or its bytes made no sense, before the body was whole."""

    def __init__(self, why: str = "the connection closed") -> None:
        super().__init__(f"the request body ended early: {why}; nothing was changed by it, try again")


class BodyTooSlow(TooMuch):
    """The client did not send its body in the time allowed."""

    def __init__(self, limit_s: float, what: str) -> None:
        super().__init__(f"the request body came too slowly: {what} took more than {limit_s:g} seconds")


class BodyTooLarge(TooMuch):
    """The body is longer than the server takes."""

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(
            f"the request is larger than this server takes ({limit_bytes} bytes); push in smaller steps, "
            "or ask the administrator to raise the limit"
        )
        self.limit_bytes = limit_bytes


class UnsupportedEncoding(Invalid):
    """The body is in a content coding that is not spoken here."""

    def __init__(self, coding: str) -> None:
        super().__init__(f"Content-Encoding {coding[:40]!r} is not supported; send the body plain or with gzip")


class Source(Protocol):
    """Anything with a ``read`` that gives 1 to *size* bytes, and none only at the end."""

    def read(self, size: int, /) -> bytes:
        """The next bytes."""
        ...


class Arriving(Protocol):
    """Where raw body bytes come from: a connection with its time limits.

    Two classes keep this: the connection, and the tests' scripted one.
    """

    def take(self, limit: int) -> bytes:
        """1 to *limit* bytes as they come; empty when the peer closed. Raises BodyTooSlow."""
        ...


class LengthBody:
    """A body whose length was said in ``Content-Length``."""

    def __init__(self, arriving: Arriving, length: int) -> None:
        self._arriving = arriving
        self.remaining = length

    @property
    def finished(self) -> bool:
        """Whether the whole body was read."""
        return self.remaining == 0

    def read(self, size: int, /) -> bytes:
        """See Source.

        Raises:
            BodyCutShort: the peer closed before the length it promised.
        """
        if not self.remaining or not size:
            return b""
        data = self._arriving.take(min(size, self.remaining, PIECE_BYTES))
        if not data:
            raise BodyCutShort
        self.remaining -= len(data)
        return data


class ChunkedBody:
    """A body in chunks. *pieces* raises BodyCutShort where the last chunk is missing."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._held = b""
        self._failure: Failure | None = None
        self.finished = False

    def read(self, size: int, /) -> bytes:
        """See Source. Once it raised, it raises again."""
        if not size:
            return b""
        if self._failure is not None:
            raise self._failure
        while not self._held and not self.finished:
            try:
                piece = next(self._pieces, None)
            except Failure as failure:
                self._failure = failure
                raise
            if piece is None:
                self.finished = True
            else:
                self._held = piece
        data, self._held = self._held[:size], self._held[size:]
        return data


class LimitedBody:
    """A body that refuses to be longer than *limit_bytes*."""

    def __init__(self, source: Source, limit_bytes: int) -> None:
        self._source = source
        self._limit = limit_bytes
        self._seen = 0

    def read(self, size: int, /) -> bytes:
        """See Source.

        Raises:
            BodyTooLarge: one byte more than the limit arrived.
        """
        data = self._source.read(size)
        self._seen += len(data)
        if self._seen > self._limit:
            raise BodyTooLarge(self._limit)
        return data


class GzipBody:
    """A gzip body, inflated a bounded piece at a time, so that a bomb costs no memory.

    Several gzip members one after the other are one body.
    Source: RFC 9110 section 8.4.1.3, RFC 1952 section 2.2.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._inflater = zlib.decompressobj(wbits=31)
        self._held = b""
        self._started = False  # inside a member
        self._ended = False

    def read(self, size: int, /) -> bytes:
        """See Source.

        Raises:
            BodyCutShort: the bytes are not gzip, or the last member is not whole.
        """
        while size > 0 and not self._ended:
            if not self._held and not self._more():
                break
            data = self._inflate(min(size, PIECE_BYTES))
            if data:
                return data
        return b""

    def _more(self) -> bool:
        self._held = self._source.read(PIECE_BYTES)
        if self._held:
            return True
        # Output that zlib still keeps back needs no second look: it takes a member's trailer only after all of it.
        if self._started:
            raise BodyCutShort("the gzip stream is not whole")
        self._ended = True
        return False

    def _inflate(self, limit: int) -> bytes:
        self._started = True
        try:
            data = self._inflater.decompress(self._held, limit)
        except zlib.error as damaged:
            raise BodyCutShort("it is not valid gzip") from damaged
        if self._inflater.eof:
            self._held = self._inflater.unused_data
            self._inflater = zlib.decompressobj(wbits=31)
            self._started = False
        else:
            self._held = self._inflater.unconsumed_tail
        return data


def decoded(source: Source, coding: str, limit_bytes: int) -> Source:
    """*source* without its content coding, and never longer than *limit_bytes*, as sent or as inflated.

    Raises:
        UnsupportedEncoding: the coding is neither absent, ``identity``, ``gzip`` nor ``x-gzip``.
    """
    limited = LimitedBody(source, limit_bytes)
    match coding.strip().lower():
        case "" | "identity":
            return limited
        case "gzip" | "x-gzip":
            return LimitedBody(GzipBody(limited), limit_bytes)
        case _:
            raise UnsupportedEncoding(coding)
