"""Known answers for `tests/optimizer/random.rs`, from a second implementation: the standard library and nothing else.

    python fngd-core/tests/make_random.py
"""

import hashlib
import struct


def chacha8(key: bytes):
    """The 32-bit words of ChaCha with 8 rounds, a 64-bit block counter from 0 and nonce 0 (Bernstein 2008)."""

    def quarter(state, a, b, c, d):
        for first, second, third, shift in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
            state[first] = (state[first] + state[second]) & 0xFFFFFFFF
            mixed = state[third] ^ state[first]
            state[third] = (mixed << shift | mixed >> 32 - shift) & 0xFFFFFFFF

    block = 0
    while True:
        start = [*struct.unpack("<4I", b"expand 32-byte k"), *struct.unpack("<8I", key), block & 0xFFFFFFFF, block >> 32, 0, 0]
        state = list(start)
        for _ in range(4):
            for column in range(4):
                quarter(state, column, column + 4, column + 8, column + 12)
            for column in range(4):
                quarter(state, column, 4 + (column + 1) % 4, 8 + (column + 2) % 4, 12 + (column + 3) % 4)
        yield from ((before + after) & 0xFFFFFFFF for before, after in zip(start, state))
        block += 1


class Stream:
    def __init__(self, seed: int, purpose: str, counters: list[int]):
        name = purpose.encode()
        text = b"fngd random stream, version 1" + struct.pack("<QQ", seed, len(name)) + name
        text += struct.pack(f"<{1 + len(counters)}Q", len(counters), *counters)
        self.words = chacha8(hashlib.sha256(text).digest())

    def u64(self) -> int:
        return next(self.words) | next(self.words) << 32

    def below(self, bound: int) -> int:
        while True:
            product = self.u64() * bound
            if product % 2**64 >= 2**64 % bound:
                return product >> 64

    def permutation(self, count: int) -> list[int]:
        order = list(range(count))
        for last in range(count - 1, 0, -1):
            other = self.below(last + 1)
            order[last], order[other] = order[other], order[last]
        return order


print("seed_u64", Stream(0, "", []).u64())
print("permutation", Stream(42, "shuffle", [3]).permutation(10))
stream = Stream(42, "augment", [3, 17])
print("integers", [stream.below(9) for _ in range(6)])
stream = Stream(2**64 - 1, "uniform", [0])
print("uniform", [(stream.u64() >> 11) * 2.0**-53 for _ in range(2)])
stream = Stream(1, "large", [])
print("large", [stream.below(2**63 + 1) for _ in range(4)])
