"""Which IP addresses are on the public internet: an allow-list of global unicast, with every IPv4 address that an IPv6
one may carry unpacked and judged too, because a router or a host on the way may unpack it.

The standard library's tables decide about ordinary addresses. They depend on the version of Python and take some
special-purpose blocks for public, so those are named here (IANA's special-purpose registries and address space).
"""

import ipaddress
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

# What IANA gives out as global unicast. Everything else in IPv6 is special, internal or not assigned: compatible and
# translated IPv4 (::/96, ::ffff:0:0:0/96), site-local (fec0::/10), segment routing (5f00::/16) and the rest.
GLOBAL_UNICAST = IPv6Network("2000::/3")
NOT_PUBLIC_V6 = tuple(
    map(
        IPv6Network,
        (
            "2001::/23",  # protocol assignments: Teredo, benchmarking, ORCHID and others, none of them a web server
            "2001:db8::/32",  # documentation
            "3ffe::/16",  # the former 6bone
            "3fff::/20",  # documentation
        ),
    )
)
NOT_PUBLIC_V4 = tuple(
    map(
        IPv4Network,
        (
            "192.0.0.0/24",  # protocol assignments
            "192.88.99.0/24",  # relays of 6to4
        ),
    )
)
# An IPv6 address that stands for an IPv4 one on a translator to the public internet (RFC 6052). The prefix for local
# use, 64:ff9b:1::/48 (RFC 8215), leads to whatever its network chooses: it is not in the allow-list.
NAT64 = IPv6Network("64:ff9b::/96")
# The identifiers of interfaces that carry an IPv4 address in their last 32 bits (ISATAP, RFC 5214).
ISATAP = (0x0000_5EFE, 0x0200_5EFE)


def is_public(text: str) -> bool:
    """Whether an address is globally routable unicast, and so is every IPv4 address that it carries."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    if isinstance(address, IPv4Address):
        return _is_public_v4(address)
    if address.scope_id is not None:  # a zone: an address of one link
        return False
    if address.ipv4_mapped is not None:  # the same as the IPv4 address
        return _is_public_v4(address.ipv4_mapped)
    if address in NAT64:
        return _is_public_v4(_v4_at(address, 0))
    return _is_public_v6(address) and all(map(_is_public_v4, _carried(address)))


def _is_public_v4(address: IPv4Address) -> bool:
    return address.is_global and not address.is_multicast and not any(address in block for block in NOT_PUBLIC_V4)


def _is_public_v6(address: IPv6Address) -> bool:
    if address not in GLOBAL_UNICAST or any(address in block for block in NOT_PUBLIC_V6):
        return False
    # 6to4 is not globally reachable by the table, and is judged by the IPv4 address that it carries.
    return address.is_global or address.sixtofour is not None


def _carried(address: IPv6Address) -> Iterator[IPv4Address]:
    """The IPv4 addresses inside of a global unicast address (Teredo, translated and compatible ones are none)."""
    if address.sixtofour is not None:
        yield address.sixtofour
    if int(address) >> 32 & 0xFFFF_FFFF in ISATAP:
        yield _v4_at(address, 0)


def _v4_at(address: IPv6Address, shift: int) -> IPv4Address:
    return IPv4Address(int(address) >> shift & 0xFFFF_FFFF)
