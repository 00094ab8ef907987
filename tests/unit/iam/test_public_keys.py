"""SSH public keys are read strictly, and what is not one is never repeated."""

import base64
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from gitserver.iam.public_keys import LONGEST_KEY, InvalidPublicKey, fingerprint, parse_public_key
from tests.unit.iam.iam_house import ed25519_line


def _string(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


def _line(key_type: str, *parts: bytes) -> str:
    blob = _string(key_type.encode()) + b"".join(_string(part) for part in parts)
    return f"{key_type} {base64.b64encode(blob).decode()}"


@pytest.mark.parametrize(
    ("key_type", "bits"), [("ed25519", 256), ("rsa", 2048), ("ecdsa", 256), ("ecdsa", 384), ("ecdsa", 521)]
)
def test_the_keys_that_ssh_keygen_makes_are_taken(tmp_path: Path, key_type: str, bits: int) -> None:
    file = tmp_path / "key"
    subprocess.run(
        ["ssh-keygen", "-q", "-t", key_type, "-b", str(bits), "-N", "", "-C", "a comment", "-f", file], check=True
    )
    said = subprocess.run(["ssh-keygen", "-lf", file], check=True, capture_output=True, text=True).stdout

    key = parse_public_key(file.with_suffix(".pub").read_text())

    assert key.fingerprint == said.split()[1]
    assert fingerprint(key.blob) == key.fingerprint


def test_a_private_key_pasted_by_mistake_is_refused_and_not_repeated() -> None:
    private = ed25519.Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())

    with pytest.raises(InvalidPublicKey, match="this is a private key") as refused:
        parse_public_key(private.decode())

    assert private.decode().splitlines()[1] not in str(refused.value)


def test_the_middle_of_a_private_key_is_not_repeated_either() -> None:
    body = base64.b64encode(b"\x01secret scalar" * 40).decode()

    for text in (body, f"{body}\n{body}", f"ssh-ed25519 {body[:-1]}!", f"{body} {body}", f"ssh-ed25519 {body}"):
        with pytest.raises(InvalidPublicKey) as refused:
            parse_public_key(text)
        assert body[:16] not in str(refused.value)
        assert refused.value.__cause__ is None


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("", "not a public key"),
        ("ssh-ed25519", "not a public key"),
        ("ssh-ed25519 AAAA\nssh-ed25519 AAAA", "not a public key"),
        ("ssh-dss AAAA", "DSA keys are too weak"),
        ("sk-ssh-ed25519@openssh.com AAAA", "security token"),
        ("ssh-ed25519-cert-v01@openssh.com AAAA", "certificate"),
        ('command="sh" ssh-ed25519 AAAA', "does not start with"),
        ("ssh-ed25519 AA*A", "not base64"),
        ("ssh-ed25519 AAAé", "not base64"),
        (_line("ssh-ed25519", b"k" * 31), "damaged"),
        (_line("ssh-ed25519", b"k" * 32, b"more"), "damaged"),
        (_line("ssh-rsa", b"\x01\x00\x01", b""), "damaged|RSA"),
        (_line("ecdsa-sha2-nistp256", b"nistp256", b"\x04" + b"\x11" * 64), "damaged"),
        (_line("ecdsa-sha2-nistp256", b"nistp384", b"\x04" + b"\x11" * 96), "damaged"),
        ("---- BEGIN SSH2 PUBLIC KEY ----", "convert it"),
        ("ssh-ed25519 " + "A" * LONGEST_KEY, "longer than"),
    ],
)
def test_what_is_no_sound_key_is_refused_with_a_sentence(line: str, sentence: str) -> None:
    with pytest.raises(InvalidPublicKey, match=sentence):
        parse_public_key(line)


def test_the_first_word_must_tell_the_truth() -> None:
    line = ed25519_line().replace("ssh-ed25519", "ssh-rsa", 1)

    with pytest.raises(InvalidPublicKey, match="another type"):
        parse_public_key(line)


def test_a_small_rsa_key_is_refused() -> None:
    small = rsa.generate_private_key(65537, 1024).public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)

    with pytest.raises(InvalidPublicKey, match="1024 bits and needs 2048"):
        parse_public_key(small.decode())


def test_an_rsa_key_in_a_second_spelling_is_refused() -> None:
    numbers = rsa.generate_private_key(65537, 2048).public_key().public_numbers()
    modulus = numbers.n.to_bytes(257, "big")

    with pytest.raises(InvalidPublicKey):
        parse_public_key(_line("ssh-rsa", b"\x00\x01\x00\x01", b"\x00" + modulus))


def test_a_compressed_curve_point_is_refused() -> None:
    public = ec.generate_private_key(ec.SECP256R1()).public_key()
    point = public.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)

    with pytest.raises(InvalidPublicKey):
        parse_public_key(_line("ecdsa-sha2-nistp256", b"nistp256", point))


def test_a_dsa_key_is_refused_by_name() -> None:
    numbers = dsa.generate_private_key(1024).public_key().public_numbers()
    parts = (numbers.parameter_numbers.p, numbers.parameter_numbers.q, numbers.parameter_numbers.g, numbers.y)

    with pytest.raises(InvalidPublicKey, match="DSA keys"):
        parse_public_key(_line("ssh-dss", *(part.to_bytes(part.bit_length() // 8 + 1, "big") for part in parts)))
