"""Makes the golden sealed streams with Google's Tink, and the golden wrapped key from the specification's words.

    python tests/vectors/make_sealed.py

None of our code runs here. What is made is kept; running this again makes other, equally good streams, since
Tink draws its own salts.
"""

import io
import json
from hashlib import sha256, shake_256
from pathlib import Path

import tink
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from tink import secret_key_access, streaming_aead
from tink.proto import aes_gcm_hkdf_streaming_pb2, common_pb2, tink_pb2

HERE = Path(__file__).parent / "sealed"
KEY = sha256(b"a data key for tests").digest()
ASSOCIATED = "4753423100046269747300026f66"  # any bytes do for Tink
FIRST_64K, NEXT_64K = 65_536 - 40 - 16, 65_536 - 16
FIRST_4K, NEXT_4K = 4_096 - 40 - 16, 4_096 - 16
CASES = [
    (65_536, 0),
    (65_536, 13),
    (65_536, FIRST_64K),
    (65_536, FIRST_64K + 1),
    (4_096, FIRST_4K - 1),
    (4_096, FIRST_4K),
    (4_096, FIRST_4K + 1),
    (4_096, FIRST_4K + NEXT_4K),
    (4_096, FIRST_4K + NEXT_4K + 1),
    (4_096, FIRST_4K + 3 * NEXT_4K + 77),
]


def main() -> None:
    """Write the vectors."""
    HERE.mkdir(exist_ok=True)
    streaming_aead.register()
    index = []
    for segment_bytes, plain_bytes in CASES:
        name = f"{segment_bytes}-{plain_bytes}.bin"
        plain = shake_256(name.encode()).digest(plain_bytes)
        (HERE / name).write_bytes(seal(plain, segment_bytes))
        index.append({"file": name, "segment_bytes": segment_bytes, "plain_bytes": plain_bytes})
    content = {"key": KEY.hex(), "associated": ASSOCIATED, "streams": index, "wrapped": wrapped()}
    (HERE / "index.json").write_text(json.dumps(content, indent=1) + "\n")


def seal(plain: bytes, segment_bytes: int) -> bytes:
    """What Tink makes of *plain*."""
    primitive = tink.proto_keyset_format.parse(keyset(segment_bytes), secret_key_access.TOKEN).primitive(
        streaming_aead.StreamingAead
    )
    kept = io.BytesIO()
    kept.close_for_good, kept.close = kept.close, lambda: None  # type: ignore[attr-defined, method-assign]
    with primitive.new_encrypting_stream(kept, bytes.fromhex(ASSOCIATED)) as stream:
        stream.write(plain)
    return kept.getvalue()


def keyset(segment_bytes: int) -> bytes:
    """A keyset with our one key in it."""
    key = aes_gcm_hkdf_streaming_pb2.AesGcmHkdfStreamingKey(
        version=0,
        key_value=KEY,
        params=aes_gcm_hkdf_streaming_pb2.AesGcmHkdfStreamingParams(
            ciphertext_segment_size=segment_bytes, derived_key_size=32, hkdf_hash_type=common_pb2.SHA256
        ),
    )
    made = tink_pb2.Keyset(primary_key_id=1)
    entry = made.key.add(key_id=1, status=tink_pb2.ENABLED, output_prefix_type=tink_pb2.RAW)
    entry.key_data.type_url = "type.googleapis.com/google.crypto.tink.AesGcmHkdfStreamingKey"
    entry.key_data.value = key.SerializeToString()
    entry.key_data.key_material_type = tink_pb2.KeyData.SYMMETRIC
    return bytes(made.SerializeToString())


def wrapped() -> dict[str, str]:
    """A data key wrapped by version 3 of an owner's key, byte by byte as docs/sealed-format.md has it."""
    wrapping, plain, nonce = sha256(b"a wrapping key").digest(), sha256(b"what is wrapped").digest(), bytes(range(12))
    bound = (
        b"gitserver wrap 1\n"
        b'{"context":{"aws:codecommit:id":"0b3e\xc3\xa9","gitserver:account":"123456789012"},'
        b'"key_id":"123456789012.0b3e","version":3}'
    )
    cipher = Cipher(algorithms.AES256(wrapping), modes.GCM(nonce)).encryptor()
    cipher.authenticate_additional_data(bound)
    sealed = cipher.update(plain) + cipher.finalize() + cipher.tag
    return {
        "wrapping": wrapping.hex(),
        "plain": plain.hex(),
        "wrapped": (b"\x01" + b"\x00\x00\x00\x03" + nonce + sealed).hex(),
    }


if __name__ == "__main__":
    main()
