"""Dynamic batching: the window, and each of its options."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from bench.protocols import Admission, Running
from bench.serving.policies import Deadline, DynamicBatching
from bench.serving.policies.dynamic import SETTLE_LIMIT

from .waiting import MS, QUEUES, Waits, of_lengths, waiting, waits

IDLE = Running()
PLAIN = st.builds(DynamicBatching, max_size=st.integers(1, 20), max_wait_ms=MS)


@given(policy=PLAIN, queue=QUEUES, later_s=st.floats(0, 10))
def test_the_window_counts_from_the_oldest_arrival_and_is_not_exceeded(
    policy: DynamicBatching, queue: Sequence[Waits], later_s: float
) -> None:
    now_s = queue[-1].sent_s + later_s
    answer = policy.admit(queue, IDLE, now_s, draining=False)
    waited_ms = (now_s - queue[0].sent_s) * 1000
    if answer.take:
        assert answer.take == tuple(range(min(len(queue), policy.max_size)))
        assert len(queue) >= policy.max_size or waited_ms >= policy.max_wait_ms - 1e-6
    else:
        assert len(queue) < policy.max_size
        assert waited_ms < policy.max_wait_ms + 1e-6
        assert answer.wake_s == pytest.approx(queue[0].sent_s + policy.max_wait_ms / 1000)


def test_an_idle_engine_takes_at_once_what_waits_where_there_is_no_window() -> None:
    answer = DynamicBatching(max_size=8, max_wait_ms=0).admit(waiting(0.0, 0.5), IDLE, 0.5, draining=False)
    assert answer == Admission(take=(0, 1), reason="window")


@pytest.mark.parametrize(
    ("sent_s", "now_s", "draining", "reason"),
    [
        ((0.0, 0.1, 0.2), 0.2, False, "size"),
        ((0.0, 0.1, 0.2), 9.0, True, "size"),
        ((0.0, 0.1), 0.5, False, "window"),
        ((0.0, 0.1), 0.5, True, "window"),
        ((0.0, 0.1), 0.4, True, "drain"),
    ],
)
def test_it_says_why_a_batch_goes(
    sent_s: tuple[float, ...], now_s: float, draining: bool, reason: str
) -> None:
    answer = DynamicBatching(max_size=3, max_wait_ms=500).admit(
        waiting(*sent_s), IDLE, now_s, draining=draining
    )
    assert (answer.take, answer.reason) == (tuple(range(len(sent_s))), reason)


@pytest.mark.parametrize(
    ("n", "now_s", "draining", "size", "reason"),
    [
        pytest.param(8, 0.0, False, 8, "size", id="the largest goes as soon as it is reached"),
        pytest.param(11, 0.0, False, 8, "size", id="and no more than it"),
        pytest.param(7, 0.0, False, 0, "window", id="a smaller one waits for the larger"),
        pytest.param(7, 1.0, False, 4, "window", id="until the window ends"),
        pytest.param(4, 1.0, False, 4, "window", id="exactly a preferred size"),
        pytest.param(3, 1.0, False, 3, "window", id="fewer than the smallest all go"),
        pytest.param(7, 0.0, True, 4, "drain", id="at the end of the stream in preferred sizes, too"),
    ],
)
def test_preferred_sizes_are_filled(n: int, now_s: float, draining: bool, size: int, reason: str) -> None:
    policy = DynamicBatching(max_size=16, max_wait_ms=1000, preferred_sizes=(4, 8))
    answer = policy.admit(waiting(*[0.0] * n), IDLE, now_s, draining=draining)
    assert (len(answer.take), answer.reason) == (size, reason)


@given(queue=QUEUES, budget=st.integers(1, 600), look_ahead=st.integers(1, 4), max_size=st.integers(1, 12))
def test_the_token_budget_counts_the_padding(
    queue: Sequence[Waits], budget: int, look_ahead: int, max_size: int
) -> None:
    policy = DynamicBatching(
        max_size=max_size, max_wait_ms=1000, max_batch_tokens=budget, look_ahead=look_ahead
    )
    batch = [queue[index].request for index in policy.admit(queue, IDLE, 99.0, draining=False).take]
    padded = len(batch) * (max(len(r.prompt_ids) for r in batch) + max(r.output_tokens for r in batch))
    assert padded <= budget or len(batch) == 1


@pytest.mark.parametrize(
    ("prompts", "look_ahead", "take", "reason"),
    [
        pytest.param((7, 7, 7), 1, (0, 1, 2), "budget", id="no other would fit: it goes at once"),
        pytest.param((7, 7), 1, (), "window", id="another would fit: it waits"),
        pytest.param((50, 7), 1, (0,), "budget", id="one over the budget goes alone and at once"),
        pytest.param((2, 27, 2), 1, (0,), "budget", id="nobody overtakes one that does not fit"),
        pytest.param((2, 27, 2), 2, (), "window", id="a look-ahead lets the batch wait for others"),
        pytest.param((7, 27, 7, 7), 2, (0, 2, 3), "budget", id="and takes the next in likeness"),
    ],
)
def test_a_batch_that_no_other_fits_into_does_not_wait(
    prompts: tuple[int, ...], look_ahead: int, take: tuple[int, ...], reason: str
) -> None:
    policy = DynamicBatching(max_size=8, max_wait_ms=1000, max_batch_tokens=30, look_ahead=look_ahead)
    answer = policy.admit(of_lengths(*prompts), IDLE, 0.0, draining=False)  # 3 output tokens each
    assert (answer.take, answer.reason) == (take, reason)


def test_look_ahead_takes_the_oldest_and_those_most_like_it_within_its_reach() -> None:
    policy = DynamicBatching(max_size=3, max_wait_ms=0, look_ahead=2)
    queue = of_lengths(40, 5, 44, 80, 37, 90, 40)  # the last is beyond the first 2 × 3
    assert policy.admit(queue, IDLE, 0.0, draining=False).take == (0, 2, 4)


def test_equal_likeness_goes_by_age() -> None:
    policy = DynamicBatching(max_size=2, max_wait_ms=0, look_ahead=4)
    assert policy.admit(of_lengths(40, 44, 36, 44), IDLE, 0.0, draining=False).take == (0, 1)


@given(queue=QUEUES, look_ahead=st.integers(2, 4), max_size=st.integers(1, 12))
def test_look_ahead_never_takes_a_less_like_request_in_place_of_a_more_like_one(
    queue: Sequence[Waits], look_ahead: int, max_size: int
) -> None:
    policy = DynamicBatching(max_size=max_size, max_wait_ms=0, look_ahead=look_ahead)
    taken = set(policy.admit(queue, IDLE, 99.0, draining=False).take)
    lengths = [len(t.request.prompt_ids) + t.request.output_tokens for t in queue]
    unlike = [abs(length - lengths[0]) for length in lengths[: look_ahead * max_size]]
    assert 0 in taken
    assert max(unlike[i] for i in taken) <= min(
        (unlike[i] for i in range(len(unlike)) if i not in taken), default=1e9
    )


SETTLING = DynamicBatching(max_size=16, max_wait_ms=0, settle_ms=10)


def holds(answer: Admission, reason: str, wake_s: float) -> bool:
    """Say whether `answer` waits for `reason` until `wake_s`."""
    assert answer.wake_s is not None
    return not answer.take and answer.reason == reason and abs(answer.wake_s - wake_s) < 1e-9


def after_a_batch(*sent_s: float, now_s: float, ended: int = 8) -> Admission:
    """Ask `SETTLING` at `now_s` after a batch of `ended` has ended at 1 s."""
    return SETTLING.admit(waiting(*sent_s), Running(ended_s=1.0, ended=ended), now_s, draining=False)


def test_after_a_batch_it_waits_for_the_clients_that_it_released() -> None:
    assert holds(after_a_batch(0.5, 0.5, now_s=1.0), "settle", 1.01)
    assert holds(after_a_batch(0.5, 0.5, 1.004, now_s=1.004), "settle", 1.014)
    assert after_a_batch(0.5, 0.5, 1.004, now_s=1.0141).reason == "settle"
    assert after_a_batch(0.5, 0.5, 1.004, now_s=1.0141).take == (0, 1, 2)


def test_it_goes_at_once_when_they_are_all_back() -> None:
    back = [1.0 + 0.0001 * k for k in range(8)]
    assert not after_a_batch(0.5, *back[:7], now_s=1.001).take
    assert len(after_a_batch(0.5, *back, now_s=1.001).take) == 9


def test_it_goes_at_once_after_an_idle_time_and_at_the_start() -> None:
    assert after_a_batch(1.02, now_s=1.02).take == (0,)
    assert SETTLING.admit(waiting(0.0), IDLE, 0.0, draining=False).take == (0,)


def test_settling_does_not_hold_a_full_batch_nor_the_end_of_the_stream() -> None:
    assert after_a_batch(*[0.5] * 16, now_s=1.0, ended=16).reason == "size"
    running = Running(ended_s=1.0, ended=8)
    assert SETTLING.admit(waiting(0.5), running, 1.0, draining=True).reason == "drain"


@given(
    gaps_s=st.lists(st.floats(0, 0.02), max_size=60),
    ended=st.integers(0, 20),
    oldest_s=st.floats(0, 1.01),
)
def test_settling_ends_under_steady_arrivals(gaps_s: list[float], ended: int, oldest_s: float) -> None:
    policy = DynamicBatching(max_size=1000, max_wait_ms=0, settle_ms=10)
    times, now_s = [oldest_s], max(1.0, oldest_s)
    for gap_s in gaps_s:
        now_s += gap_s
        times.append(now_s)
        answer = policy.admit(waiting(*times), Running(ended_s=1.0, ended=ended), now_s, draining=False)
        assert answer.take or now_s < 1.0 + SETTLE_LIMIT * 0.01
        assert answer.wake_s is None or answer.wake_s <= 1.0 + SETTLE_LIMIT * 0.01


def test_closed_loop_clients_do_not_lock_into_two_half_cohorts() -> None:
    assert _closed_loop_sizes(DynamicBatching(max_size=16, max_wait_ms=0))[-1] == 8
    assert _closed_loop_sizes(SETTLING)[-3:] == [16, 16, 16]


def _closed_loop_sizes(policy: DynamicBatching) -> list[int]:
    """Serve 16 clients that send again 0.1 ms after their answer; return the sizes of 12 batches.

    Eight come first, the others while these are served. A batch takes 5 ms.
    """
    coming, now_s, running = [0.0] * 8 + [0.001] * 8, 0.0, Running()
    sizes: list[int] = []
    while len(sizes) < 12:
        arrived = [t for t in coming if t <= now_s]
        answer = policy.admit(waiting(*arrived), running, now_s, draining=False) if arrived else Admission()
        if answer.take:
            sizes.append(len(answer.take))
            now_s += 0.005
            running = Running(ended_s=now_s, ended=sizes[-1])
            coming = sorted([*coming[sizes[-1] :], *[now_s + 0.0001] * sizes[-1]])
        else:
            later = [t for t in coming if t > now_s]
            now_s = min([*later, *([answer.wake_s] if answer.wake_s else [])])
    return sizes


HURRIED = DynamicBatching(
    max_size=16, max_wait_ms=1000, settle_ms=100, deadline=Deadline(ms=500, base_ms=100, per_request_ms=10)
)


def test_it_goes_when_the_oldest_would_miss_its_deadline() -> None:
    queue = [waits(0, 0.1, due_s=0.0), waits(1, 0.2)]  # two take 120 ms: the start is due at 0.38 s
    assert holds(HURRIED.admit(queue, IDLE, 0.3, draining=False), "window", 0.38)
    assert HURRIED.admit(queue, IDLE, 0.3801, draining=False) == Admission(take=(0, 1), reason="deadline")


def test_a_larger_batch_takes_longer_and_so_goes_earlier() -> None:
    def wake_s(n: int) -> float:
        answer = HURRIED.admit([waits(uid, 0.0) for uid in range(n)], IDLE, 0.0, draining=False)
        assert answer.wake_s is not None
        return answer.wake_s

    assert [wake_s(n) for n in (1, 5, 15)] == pytest.approx([0.39, 0.35, 0.25])


@given(queue=QUEUES, now_s=st.floats(10, 20))
def test_a_deadline_that_is_far_away_changes_nothing(queue: Sequence[Waits], now_s: float) -> None:
    far = Deadline(ms=1e9, base_ms=1, per_request_ms=1)
    assume(len(queue) < 20)
    plain, with_deadline = (
        DynamicBatching(max_size=20, max_wait_ms=9000, deadline=deadline).admit(
            queue, IDLE, now_s, draining=False
        )
        for deadline in (None, far)
    )
    assert plain == with_deadline
