"""The journal: appended to, never altered; its errors say what to do."""

import sqlite3
import threading
from contextlib import closing
from dataclasses import replace

import pytest

from napari_em_seg.errors import EmSegError, FormatError, SourceNotFoundError
from napari_em_seg.review import Operation
from napari_em_seg.review.journal import Journal


def operation(number, **changes):
    made = Operation(number, "2026-01-01T00:00:00.000+00:00", "Änne", 1.5, "note", {"text": "→", "link": None},
                     {"p": [0.1, 2]}, 1.1, 0.1 + 0.2, {"chosen": [[1], [0]]})  # fmt: skip
    return replace(made, **changes)


@pytest.fixture
def path(tmp_path):
    Journal.create(tmp_path / "journal.sqlite")
    return tmp_path / "journal.sqlite"


def test_what_is_appended_comes_back(path):
    with closing(Journal.open(path)) as journal:
        for i in range(1, 5):
            journal.append(operation(i, duration_s=None if i == 2 else i / 3))
    with closing(Journal.open(path)) as journal:
        assert journal.operations() == [operation(i, duration_s=None if i == 2 else i / 3) for i in range(1, 5)]
        assert [o.id for o in journal.operations(after=2)] == [3, 4]
    assert sorted(p.name for p in path.parent.iterdir()) == ["journal.sqlite"]


@pytest.mark.parametrize("change", ["DELETE FROM operations", "UPDATE operations SET kind = 'accept'"])
def test_nothing_is_altered_or_removed_even_by_hand(path, change):
    with closing(Journal.open(path)) as journal:
        journal.append(operation(1))
    with (
        closing(sqlite3.connect(path)) as connection,
        pytest.raises(sqlite3.IntegrityError, match="append-only"),
    ):
        connection.execute(change)
    with closing(Journal.open(path)) as journal:
        assert journal.operations() == [operation(1)]


def test_a_number_is_given_once(path):
    with closing(Journal.open(path)) as journal:
        journal.append(operation(1))
        with pytest.raises(EmSegError):
            journal.append(operation(1, user="ben"))
        assert journal.operations() == [operation(1)]


def test_another_may_read_while_one_writes(path):
    with closing(Journal.open(path)) as writer, closing(Journal.open(path, is_read_only=True)) as reader:
        assert reader.operations() == []
        writer.append(operation(1))
        assert reader.operations() == [operation(1)]
        with pytest.raises(EmSegError):
            reader.append(operation(2))
        writer.append(operation(2))
        assert reader.operations() == [operation(1), operation(2)]


def test_several_threads_may_append(path):
    with closing(Journal.open(path)) as journal:
        threads = [threading.Thread(target=journal.append, args=(operation(i),)) for i in range(1, 20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert journal.operations() == [operation(i) for i in range(1, 20)]


def test_a_full_disk(path):
    """SQLite's own limit on pages stands in for it; what was there stays, and it goes on given space."""
    with closing(Journal.open(path)) as journal:
        journal.append(operation(1))
        (pages,) = journal._connection.execute("PRAGMA page_count").fetchone()
        journal._connection.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(EmSegError, match=r"all that was done before is safe.*Free some space"):
            journal.append(operation(2, payload={"text": "x" * 50_000}))
        assert journal.operations() == [operation(1)]
        journal._connection.execute("PRAGMA max_page_count = 1000000")
        journal.append(operation(2))
        assert journal.operations() == [operation(1), operation(2)]


def test_a_newer_journal_is_left_alone(path):
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 9")
    before = path.read_bytes()
    with pytest.raises(FormatError, match=r"version 9.*Update napari-em-seg; nothing was changed"):
        Journal.open(path)
    assert path.read_bytes() == before


def test_other_files_are_refused(tmp_path, path):
    with closing(sqlite3.connect(tmp_path / "other.sqlite")) as connection:
        connection.execute("CREATE TABLE operations (id)")
    (tmp_path / "text.sqlite").write_text("This is no database at all. " * 100)
    for name, words in (("other", "no journal"), ("text", "damaged"), ("none", "not there")):
        with pytest.raises((FormatError, SourceNotFoundError), match=words):
            Journal.open(tmp_path / f"{name}.sqlite")
    assert not (tmp_path / "none.sqlite").exists()


@pytest.mark.parametrize("is_read_only", [False, True])
def test_a_gap_in_the_numbers_is_noticed(path, is_read_only):
    with closing(Journal.open(path)) as journal:
        journal.append(operation(1))
        journal.append(operation(3))
    with pytest.raises(FormatError, match="2 operations numbered 1 to 3"):
        Journal.open(path, is_read_only=is_read_only)


def test_damage_inside_is_noticed(path):
    with closing(Journal.open(path)) as journal:
        for i in range(1, 200):
            journal.append(operation(i, payload={"text": "x" * 200}))
    content = bytearray(path.read_bytes())
    content[4096 * 3 : 4096 * 5] = b"\x55" * 8192
    path.write_bytes(content)
    with pytest.raises(FormatError, match=r"damaged.*Restore it from a copy"):
        Journal.open(path)
