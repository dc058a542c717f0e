"""Which addresses image URLs may lead to."""

import pytest

from dynrefer.service.inputs.public_addresses import is_public

NOT_PUBLIC = {
    "private, local and special IPv4": (
        "0.0.0.0 10.0.0.1 100.64.0.1 127.0.0.1 169.254.169.254 172.16.0.1 192.0.0.1 192.0.0.8 192.0.0.255 192.0.2.1 "
        "192.88.99.1 192.168.0.1 198.18.0.1 198.51.100.1 203.0.113.1 224.0.0.1 233.252.0.1 240.0.0.1 255.255.255.255"
    ),
    "private, local and special IPv6": "::1 :: fe80::1 fe80::1%eth0 2606:2800:220:1::1%1 fc00::1 fdff::1 ff02::1",
    "site-local": "fec0::1 feff::1",
    "segment routing": "5f00::1",
    "documentation": "2001:db8::1 3fff::1 3fff:fff::1",
    "protocol assignments": "2001::1 2001:2::1 2001:10::1 2001:20::1 2001:1ff:ffff::1",
    "the former 6bone": "3ffe::1",
    "not assigned": "100::1 4000::1 1000::1 e000::1 8000::1 200::1",
    "mapped": "::ffff:127.0.0.1 ::ffff:169.254.169.254 ::ffff:a00:1",
    "compatible": "::127.0.0.1 ::169.254.169.254 ::192.168.0.1 ::8.8.8.8",
    "translated": "::ffff:0:127.0.0.1 ::ffff:0:169.254.169.254 ::ffff:0:8.8.8.8",
    "NAT64": "64:ff9b::7f00:1 64:ff9b::a9fe:a9fe 64:ff9b::c000:8",
    "NAT64 of local use": "64:ff9b:1::7f00:1 64:ff9b:1:7f00:1:: 64:ff9b:1:a9fe:a9:fe00:: 64:ff9b:1::808:808",
    "6to4": "2002:7f00:1:: 2002:a9fe:a9fe::1 2002:c0a8:1::1 2002:c058:6301::",
    "Teredo": "2001:0:7f00:1::1 2001:0:5db8:d70e::f7f7:f7f7",
    "ISATAP": "2a00:1450::5efe:10.0.0.1 2a00:1450::200:5efe:127.0.0.1 2a00:1450::5efe:a9fe:a9fe",
    "6to4 around ISATAP": "2002:5db8:d70e::5efe:7f00:1",
    "no address": "2130706433 0x7f000001 0177.0.0.1 127.1 localhost 8.8.8.8/32 8.8.8.8:443 [::1]",
}
PUBLIC = (
    "8.8.8.8 93.184.215.14 192.0.1.1 192.88.98.1 2606:2800:21f:cb07:6820:80da:af6b:8b2c 2a00:1450:4001:82a::200e "
    "2001:200::1 2001:4860:4860::8888 64:ff9b::5db8:d70e 2002:5db8:d70e::1 ::ffff:8.8.8.8 2a00:1450::5efe:8.8.8.8"
)


@pytest.mark.parametrize(("kind", "addresses"), NOT_PUBLIC.items())
def test_not_public(kind: str, addresses: str) -> None:
    assert [each for each in addresses.split() if is_public(each)] == []
    assert not is_public("")


def test_public() -> None:
    assert [each for each in PUBLIC.split() if not is_public(each)] == []
