import pytest

from otel_bridge.delivery.books import Books, Drop, UnbalancedBooksError


def books(**counts: int) -> Books:
    made = Books()
    for name, count in counts.items():
        if name in Drop.__members__.values():
            made.drops[Drop(name)] = count
        else:
            setattr(made, name, count)
    return made


def test_new_books_are_empty_and_balance() -> None:
    Books().check(queued=0, in_flight=0)
    assert set(Books().counters(held=0).values()) == {0}


def test_every_fate_counts() -> None:
    made = books(submitted=36, exported=1, queue_full=4, refused=5, rejected=6, too_large=7, closed=8)
    made.check(queued=2, in_flight=3)
    assert made.counters(held=5) == {
        "submitted": 36,
        "exported": 1,
        "queued": 5,
        "dropped_queue_full": 4,
        "dropped_refused": 5,
        "dropped_rejected": 6,
        "dropped_too_large": 7,
        "dropped_closed": 8,
    }
    assert made.given_up == 5 + 6 + 7 + 8


@pytest.mark.parametrize("name", ["exported", *Drop])
def test_a_count_too_many_in_any_place_is_found(name: str) -> None:
    with pytest.raises(UnbalancedBooksError, match="submitted 1"):
        books(submitted=1, **{name: 2}).check(queued=0, in_flight=0)


@pytest.mark.parametrize(("queued", "in_flight"), [(0, 0), (2, 0), (1, 1), (0, 2)])
def test_spans_held_that_were_not_submitted_or_are_missing_are_found(queued: int, in_flight: int) -> None:
    made = books(submitted=1)
    made.check(queued=1, in_flight=0)
    made.check(queued=0, in_flight=1)
    with pytest.raises(UnbalancedBooksError, match=f"queued {queued}, in flight {in_flight}"):
        made.check(queued=queued, in_flight=in_flight)


def test_a_negative_count_is_found_even_where_the_sum_is_right() -> None:
    with pytest.raises(UnbalancedBooksError):
        books(submitted=1, exported=2, closed=-1).check(queued=0, in_flight=0)
