"""Projection onto the rows of a node, bit by bit against numpy."""

import itertools
import runpy

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from llvmlite import binding

from sigmine import _jit, bitset
from sigmine._jit import JIT_ENABLED, njit
from sigmine.association.evidence import build_tables
from sigmine.association.scores import N_COLUMNS
from sigmine.bitset import build_bit_table, extract_bits, pack_columns
from sigmine.search.layout import LINE, N_STATE, N_STRATA, PLAIN, RANK, STRATUM, WORD
from sigmine.search.projection import (
    project,
    project_pair,
    project_segments,
    strata_of_pair,
)
from sigmine.settings import SearchSettings

U = np.uint64
RUBBISH = U(0xDEADBEEFDEADBEEF)
ALL = (1 << 64) - 1


# ---------------------------------------------------------------------------------------------
# Bits of one word
# ---------------------------------------------------------------------------------------------


@njit
def extract_compiled(words, masks, out):
    for i in range(words.shape[0]):
        out[i] = extract_bits(words[i], masks[i])


def in_a_kernel(words, masks):
    out = np.zeros_like(words)
    extract_compiled(words, masks, out)
    return out


def one_by_one(function):
    return lambda words, masks: np.array(
        [function(w, m) for w, m in zip(words, masks, strict=True)], dtype=np.uint64
    )


_steps = numba.njit(bitset._extract_by_steps)
WAYS = {
    "python": one_by_one(extract_bits),
    "kernel": in_a_kernel,  # the instruction, where the processor has it
    "steps, compiled": one_by_one(_steps),
    "steps": one_by_one(bitset._extract_by_steps),
}
every_way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)


def naive_extract(word, mask):
    """Read the bits one by one, lowest first, as text."""
    kept = [str(word >> i & 1) for i in range(64) if mask >> i & 1]
    return int("".join(reversed(kept)) or "0", 2)


def assert_extracts(way, words, masks):
    found = way(np.array(words, dtype=U), np.array(masks, dtype=U))
    assert found.dtype == np.uint64
    assert found.tolist() == [naive_extract(w, m) for w, m in zip(words, masks, strict=True)]


word = st.one_of(
    st.sampled_from([0, 1, ALL, 1 << 63, 0xAAAAAAAAAAAAAAAA, 0x5555555555555555, 0xFFFFFFFF]),
    st.integers(0, ALL),
)


@every_way
@given(pairs=st.lists(st.tuples(word, word), min_size=1, max_size=20))
def test_extract_bits(way, pairs):
    words, masks = zip(*pairs, strict=True)
    assert_extracts(way, words, masks)


@every_way
def test_extract_bits_of_every_density(way):
    rng = np.random.default_rng(64)
    n = 200 if JIT_ENABLED else 60
    bits = rng.random((n, 2, 64)) < rng.random((n, 2, 1))
    packed = np.packbits(bits, axis=2, bitorder="little").view(np.uint64)[..., 0].tolist()
    assert_extracts(way, *zip(*packed, strict=True))
    # Every mask of one run of ones, from nothing to everything; every single bit.
    runs = [(ALL >> (64 - n) << at) if n else 0 for n in range(0, 65, 4) for at in range(65 - n)]
    values = rng.integers(0, 2**63, len(runs)).tolist()
    assert_extracts(way, values, runs)
    assert_extracts(way, [1 << i for i in range(64)], [ALL] * 64)
    assert_extracts(way, [ALL] * 64, [1 << i for i in range(64)])


@pytest.mark.parametrize(
    ("cpu", "features", "variable", "expected"),
    [
        (None, {"bmi2": True}, None, True),
        ("", {"bmi2": True}, None, True),
        ("host", {"bmi2": True}, None, True),
        ("generic", {"bmi2": True}, None, False),  # compiled for another processor
        ("x86-64-v3", {"bmi2": True}, None, False),
        (None, {"bmi2": False}, None, False),
        (None, {"neon": True}, None, False),  # another architecture
        (None, {"bmi2": True}, "1", False),
    ],
)
def test_the_instruction_is_used_where_it_is(monkeypatch, cpu, features, variable, expected):
    monkeypatch.setattr(numba.config, "CPU_NAME", cpu, raising=False)
    monkeypatch.setattr(binding, "get_host_cpu_features", lambda: features)
    monkeypatch.delenv("SIGMINE_NO_PEXT", raising=False)
    if variable:
        monkeypatch.setenv("SIGMINE_NO_PEXT", variable)
    made = runpy.run_path(_jit.__file__, run_name="sigmine.another")  # of the same package
    assert made["HAS_PEXT"] is expected


# ---------------------------------------------------------------------------------------------
# Blocks of columns
# ---------------------------------------------------------------------------------------------


def pack(bits):
    """Pack (n_columns, n_bits) into (n_columns, n_words); bits behind the last are zero."""
    return pack_columns(np.ascontiguousarray(bits.T), np.arange(bits.shape[1]))


def expected_words(bits, rows, packed):
    """Words of the columns on some rows: moved together, or words without rows left out."""
    if packed:
        return pack(bits[:, rows])
    words = pack(bits & rows)
    return words[:, pack(rows[None, :])[0] != 0]


class Block:
    """Random columns, stored word by word behind other things, and a node's rows."""

    def __init__(self, rng, n_rows, n_columns, row_density, empty_words=0.0):
        self.bits = rng.random((n_columns, n_rows)) < rng.random()
        self.kept = rng.random(n_rows) < row_density
        for first in range(0, n_rows, 64):
            if rng.random() < empty_words:
                self.kept[first : first + 64] = False
        words = pack(self.bits)
        self.n_words = words.shape[1]
        self.base, self.stride = 5, n_columns
        self.parent = np.full(self.base + words.size + 3, RUBBISH)
        self.parent[self.base : self.base + words.size] = words.T.reshape(-1)
        self.rows = pack(self.kept[None, :])[0]
        n_chosen = int(rng.integers(0, n_columns + 1))
        self.first = 2  # the choice stands behind others
        self.chosen = np.concatenate([[-1, -1], rng.permutation(n_columns)[:n_chosen]])

    def arguments(self):
        return {
            "parent": self.parent,
            "base": self.base,
            "stride": self.stride,
            "chosen": self.chosen,
            "first": self.first,
            "n": len(self.chosen) - self.first,
            "rows": self.rows,
            "n_words": self.n_words,
        }

    def expected(self, packed):
        return expected_words(self.bits[self.chosen[self.first :]], self.kept, packed)


def blocks(seed):
    """Blocks of all widths; rows that end before, at and behind borders of words."""
    rng = np.random.default_rng(seed)
    for n_rows in (1, 63, 64, 65, 127, 128, 129, 200, 320, 700):
        for density in (0.02, 0.3, 0.9, 1.0):
            for empty in (0.0, 0.6):
                yield Block(rng, n_rows, int(rng.integers(1, 9)), density, empty)


@pytest.mark.parametrize("packed", [False, True])
def test_project(packed):
    widths = set()
    for block in blocks(1):
        expected = block.expected(packed)  # (n_chosen, width)
        n, width = expected.shape
        place, out_stride = 3, n + 4  # with a gap behind every word, as where two blocks share one
        out = np.full(place + max(1, width) * out_stride + 2, RUBBISH)
        project(**block.arguments(), packed=packed, out=out, place=place, out_stride=out_stride)
        wanted = np.full_like(out, RUBBISH)
        for w in range(width):
            wanted[place + w * out_stride : place + w * out_stride + n] = expected[:, w]
        np.testing.assert_array_equal(out, wanted)
        widths.add(width)
    assert {0, 1, 2, 3, 5} <= widths


@pytest.mark.parametrize("border", [62, 63, 64, 65, 66, 127, 128, 129])
def test_project_words_that_end_at_a_border(border):
    # The rows of two or three words end just before, at and just behind the end of a word.
    rng = np.random.default_rng(border)
    for first in (1, 31, 62, 63, 64):
        counts = [first, min(64, border - first)]
        counts += [border - sum(counts), 5]  # five more rows behind the border
        if not all(0 <= count <= 64 for count in counts):
            continue
        block = Block(rng, 64 * len(counts), 4, 0.0)
        for word, count in enumerate(counts):
            block.kept[64 * word + rng.choice(64, count, replace=False)] = True
        block.rows = pack(block.kept[None, :])[0]
        block.chosen = np.concatenate([[-1, -1], rng.permutation(4)])
        expected = block.expected(packed=True)
        width = expected.shape[1]
        out = np.full(4 * width + 1, RUBBISH)
        project(**block.arguments(), packed=True, out=out, place=0, out_stride=4)
        np.testing.assert_array_equal(out[:-1].reshape(width, 4), expected.T)
        assert out[-1] == RUBBISH


@pytest.mark.parametrize("packed", [False, True])
def test_project_pair(packed):
    n_pairs = 0
    for block in blocks(2):
        expected = block.expected(packed)
        n, width = expected.shape
        if width > 2 or not block.kept.any():
            continue
        lo, hi = np.full((2, n + 9), RUBBISH)
        project_pair(**block.arguments(), packed=packed, lo=lo, hi=hi, place=4)
        both = np.zeros((n, 2), dtype=np.uint64)
        both[:, :width] = expected
        for out, column in ((lo, 0), (hi, 1)):
            np.testing.assert_array_equal(out[4 : 4 + n], both[:, column])
            assert (out[:4] == RUBBISH).all()
            assert (out[4 + n :] == RUBBISH).all()
        n_pairs += width == 2
    assert n_pairs > 5


@pytest.mark.parametrize("n_kept", [1, 63, 64, 65, 127, 128])
def test_project_pair_of_exactly_so_many_rows(n_kept):
    # Each word border at each place: the rows are spread over three to seven words.
    rng = np.random.default_rng(n_kept)
    for n_rows in (193, 256, 420):
        for _ in range(4):
            block = Block(rng, n_rows, 5, 0.0)
            block.kept[rng.choice(n_rows, n_kept, replace=False)] = True
            block.rows = pack(block.kept[None, :])[0]
            n = len(block.chosen) - block.first
            lo, hi = np.full((2, n), RUBBISH)
            project_pair(**block.arguments(), packed=True, lo=lo, hi=hi, place=0)
            expected = block.expected(packed=True)
            np.testing.assert_array_equal(lo, expected[:, 0])
            np.testing.assert_array_equal(hi, expected[:, 1] if n_kept > 64 else 0)


# ---------------------------------------------------------------------------------------------
# Strata
# ---------------------------------------------------------------------------------------------


def read_segments(segments, masks, n_words):
    """Return the (stratum, rank, line) of every position that a segment holds, and their order."""
    where = {}
    for (number, line, stratum, rank), mask in zip(
        segments[:, [WORD, LINE, STRATUM, RANK]].tolist(), masks.tolist(), strict=True
    ):
        assert 0 <= number < n_words
        assert mask
        for bit in range(64):
            if mask >> bit & 1:
                assert 64 * number + bit not in where  # in one segment only
                where[64 * number + bit] = (stratum, rank, line)
    return where


class StrataCase:
    """Strata of a table, as a worker's stack has them, and random ranks."""

    def __init__(self, rng, n_rows, n_strata):
        codes = np.sort(rng.integers(0, n_strata, n_rows))
        codes = np.unique(codes, return_inverse=True)[1]
        self.codes, self.n_strata = codes, int(codes.max()) + 1
        self.y = rng.random(n_rows) < rng.random()
        table = build_bit_table(np.zeros((n_rows, 0), dtype=bool), self.y, codes, self.n_strata)
        self.tables = build_tables(table.sizes, table.case_sizes, SearchSettings())
        self.sizes, self.case_sizes = table.sizes, table.case_sizes
        self.line_of = N_COLUMNS * self.tables.offset
        self.rank_of = rng.permutation(self.n_strata)
        n, room = len(table.masks), 4 * len(table.masks) + 4 * table.n_words + 8
        self.segments = np.full((room, 4), -7, dtype=np.int64)
        self.segments[:n, WORD] = table.segments[:, 0]
        self.segments[:n, STRATUM] = table.segments[:, 1]
        self.segments[:n, LINE] = self.line_of[table.segments[:, 1]]
        self.segments[:n, RANK] = self.rank_of[table.segments[:, 1]]
        self.masks = np.full(room, RUBBISH)
        self.masks[:n] = table.masks
        self.begin, self.end, self.n_words = 0, n, table.n_words

    def go_down(self, kept, packed):
        """Project onto some of the rows: the segments of the last node become the parent's."""
        rows = np.zeros(self.n_words, dtype=np.uint64)
        rows[: -(-len(kept) // 64)] = pack(kept[None, :])[0]
        top = project_segments(
            segments=self.segments,
            masks=self.masks,
            begin=self.begin,
            end=self.end,
            rows=rows,
            packed=packed,
        )
        added = top - self.end
        # No more room is used than the kernel has asked for.
        assert added <= self.end - self.begin + self.n_words
        assert (self.segments[top:] == -7).all()
        if packed:
            positions = np.arange(kept.sum())
        else:
            live = rows != 0
            new_word = np.cumsum(live) - 1
            places = np.flatnonzero(kept)
            positions = 64 * new_word[places // 64] + places % 64
        self.begin, self.end = self.end, top
        self.n_words = -(-int(kept.sum()) // 64) if packed else int((rows != 0).sum())
        return positions

    def assert_holds(self, positions, codes):
        found = read_segments(
            self.segments[self.begin : self.end], self.masks[self.begin : self.end], self.n_words
        )
        assert found == {
            int(position): (int(k), int(self.rank_of[k]), int(self.line_of[k]))
            for position, k in zip(positions, codes, strict=True)
        }
        # The segments of a stratum stand together, and its words ascend.
        strata = self.segments[self.begin : self.end, STRATUM].tolist()
        assert len(list(itertools.groupby(strata))) == len(set(strata))
        # Fewest possible: one for every word of every stratum.
        pairs = {(int(p) // 64, int(k)) for p, k in zip(positions, codes, strict=True)}
        assert self.end - self.begin == len(pairs)


def spread_out(positions, values, n_words, empty):
    """Put values at their positions among 64 * n_words; the others are `empty`."""
    out = np.full(64 * n_words, empty, dtype=np.asarray(values).dtype)
    out[positions] = values
    return out


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("second", [False, True])
def test_project_segments_twice(first, second):
    rng = np.random.default_rng([first, second])
    for n_rows in (1, 64, 65, 128, 130, 300, 700):
        for n_strata in (1, 2, 3, 17, 100):
            case = StrataCase(rng, n_rows, n_strata)
            kept = rng.random(n_rows) < rng.choice([0.05, 0.4, 1.0])
            kept[rng.integers(0, n_rows)] = True
            positions = case.go_down(kept, first)
            codes = case.codes[kept]
            case.assert_holds(positions, codes)
            again = rng.random(len(codes)) < rng.choice([0.3, 1.0])
            again[0] = True
            kept = spread_out(positions, again, case.n_words, False)
            positions = case.go_down(kept, second)
            case.assert_holds(positions, codes[again])


def test_no_row_no_segment():
    case = StrataCase(np.random.default_rng(0), 150, 4)
    case.go_down(np.zeros(150, dtype=bool), packed=True)
    assert case.begin == case.end


def strata_of(case):
    strata = np.full((case.n_strata + 1, 4), -7, dtype=np.int64)
    pairs = np.full((case.n_strata + 1, 2), RUBBISH)
    state = np.full(N_STATE, -9, dtype=np.int64)
    strata_of_pair(
        segments=case.segments,
        masks=case.masks,
        begin=case.begin,
        end=case.end,
        parts=case.tables.parts,
        strata=strata,
        pairs=pairs,
        state=state,
    )
    n = int(state[N_STRATA])
    assert (strata[n:] == -7).all()
    assert (pairs[n:] == RUBBISH).all()
    assert (np.delete(state, [N_STRATA, PLAIN]) == -9).all()  # nothing else is touched
    return strata[:n], pairs[:n], int(state[PLAIN])


def test_strata_of_pair():
    rng = np.random.default_rng(9)
    plain = set()
    for n_rows, n_strata in itertools.product((64, 120, 128, 260, 900), (1, 2, 5, 40)):
        for n_kept in (1, 2, 30, 64, 65, 100, 128):
            if n_kept > n_rows:
                continue
            case = StrataCase(rng, n_rows, n_strata)
            kept = np.zeros(n_rows, dtype=bool)
            kept[rng.choice(n_rows, n_kept, replace=False)] = True
            case.go_down(kept, packed=True)
            strata, pairs, is_plain = strata_of(case)
            codes = case.codes[kept]
            present = np.unique(codes)
            by_rank = present[np.argsort(case.rank_of[present])]
            assert strata[:, STRATUM].tolist() == by_rank.tolist()
            assert strata[:, RANK].tolist() == case.rank_of[by_rank].tolist()
            assert strata[:, LINE].tolist() == case.line_of[by_rank].tolist()
            for k, (low, high) in zip(by_rank, pairs.tolist(), strict=True):
                expected = np.zeros(128, dtype=bool)
                expected[:n_kept] = codes == k
                assert [low, high] == pack(expected[None, :])[0].tolist()
            counts = np.bincount(codes, minlength=case.n_strata)
            controls = case.sizes - case.case_sizes
            assert is_plain == int((counts <= np.minimum(case.case_sizes, controls)).all())
            plain.add(is_plain)
    assert plain == {0, 1}
