"""Tags of values that lie where others write too."""

from pathlib import Path

import pytest

from dynrefer.service.scale.sealing import TAG_BYTES, Seal, read_secret

SECRET = b"sixteen bytes or more"


@pytest.mark.parametrize("secret", [b"", SECRET])
def test_a_value_comes_back_under_its_key_alone(secret: bytes) -> None:
    seal = Seal(secret)
    sealed = seal.closed(b"key", b"value")
    assert seal.opened(b"key", sealed) == b"value" and len(sealed) == TAG_BYTES + 5
    assert seal.opened(b"other", sealed) is None
    assert seal.opened(b"ke", sealed[:TAG_BYTES] + b"y" + sealed[TAG_BYTES:]) is None
    for place in (0, TAG_BYTES - 1, TAG_BYTES, len(sealed) - 1):
        damaged = bytearray(sealed)
        damaged[place] ^= 1
        assert seal.opened(b"key", bytes(damaged)) is None
    for cut in (b"", sealed[:5], sealed[:-1], sealed + b"\0"):
        assert seal.opened(b"key", cut) is None


def test_nobody_without_the_secret_makes_a_value() -> None:
    for other in (b"", b"another secret of that length"):
        assert Seal(SECRET).opened(b"key", Seal(other).closed(b"key", b"value")) is None


def test_processes_with_different_secrets_keep_apart() -> None:
    names = [Seal(secret).name for secret in (b"", SECRET, b"another secret of that length")]
    assert len(set(names)) == 3 and names[0] == b"" and Seal(SECRET).name == names[1]


def test_a_secret_is_what_a_file_holds_without_its_last_line_break(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_bytes(SECRET + b"\n")
    assert read_secret(path) == SECRET
    path.write_bytes(b"short\n")
    with pytest.raises(ValueError, match="16 bytes"):
        read_secret(path)
    with pytest.raises(ValueError, match="cannot be read"):
        read_secret(tmp_path / "none")
    with pytest.raises(ValueError, match="cannot be read"):
        read_secret(tmp_path)
