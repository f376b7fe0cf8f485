"""A trace is replayed row by row at the exact rate; what is wrong with it is one line that says where."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.config import Experiment, choose, decode_experiment
from bench.errors import ConfigError
from bench.workload.arrivals import ARRIVALS, Replay
from bench.workload.lengths import LENGTHS, Constant, FromTrace
from bench.workload.load import LOADS
from bench.workload.prompts import RandomTokens
from bench.workload.schedule import Traffic, check_context, draw_requests, draw_saturating, schedule_facts
from bench.workload.trace import Start, Trace, read_trace, with_trace

from .vocabularies import FakeVocabulary

# As published: seven digits, Windows line ends, none after the last line.
AZURE_2023 = (
    "TIMESTAMP,ContextTokens,GeneratedTokens\r\n"
    "2023-11-16 18:17:03.9799600,4808,10\r\n"
    "2023-11-16 18:17:04.0319600,3180,8\r\n"
    "2023-11-16 18:17:05.9799601,110,27"
)
# As published: an offset from UTC, and no digits where a second is whole.
AZURE_2024 = (
    "TIMESTAMP,ContextTokens,GeneratedTokens\n"
    "2024-05-11 23:59:59.500000+00:00,1452,3\n"
    "2024-05-12 00:00:00+00:00,584,1\n"
    "2024-05-12 00:00:01.041683+00:00,862,38\n"
)
OWN = "user,timestamp,input_tokens,output_tokens\na,10,5,1\nb,10.5,6,2\nc,12,7,3\nd,15,8,4\n"


def write(folder: Path, text: str, name: str = "trace.csv") -> str:
    path = folder / name
    path.write_bytes(text.encode())
    return str(path)


def traffic(path: str, start: Start = "first", **changes: object) -> Traffic:
    base = Traffic(
        arrivals=Replay(path=path, start=start),
        input_tokens=FromTrace(path=path, column="input_tokens", start=start),
        output_tokens=FromTrace(path=path, column="output_tokens", start=start),
        prompts=RandomTokens(),
        vocabulary=FakeVocabulary(),
        max_context=100,
        seed=7,
    )
    return msgspec.structs.replace(base, **changes)


@pytest.mark.parametrize(
    ("text", "seconds", "inputs", "outputs"),
    [
        (AZURE_2023, [0, 0.052, 2.0000001], [4808, 3180, 110], [10, 8, 27]),
        (AZURE_2024, [0, 0.5, 1.541683], [1452, 584, 862], [3, 1, 38]),
        (OWN, [0, 0.5, 2, 5], [5, 6, 7, 8], [1, 2, 3, 4]),
        ("\ufeff" + OWN, [0, 0.5, 2, 5], [5, 6, 7, 8], [1, 2, 3, 4]),
        (OWN.replace("\n", "\n\n"), [0, 0.5, 2, 5], [5, 6, 7, 8], [1, 2, 3, 4]),
    ],
    ids=["azure-2023", "azure-2024", "own", "marked", "blank-lines"],
)
def test_a_trace_is_read_as_it_is_published(
    tmp_path: Path, text: str, seconds: list[float], inputs: list[int], outputs: list[int]
) -> None:
    trace = read_trace(write(tmp_path, text))
    assert trace.seconds.tolist() == pytest.approx(seconds, abs=1e-12)
    assert trace.input_tokens.tolist() == inputs
    assert trace.output_tokens.tolist() == outputs
    assert trace.rate_rps == pytest.approx((len(seconds) - 1) / seconds[-1])


def test_at_its_own_rate_a_whole_trace_is_replayed_in_real_time_and_at_twice_that_in_half(
    tmp_path: Path,
) -> None:
    path = write(tmp_path, AZURE_2023)
    trace, law = read_trace(path), Replay(path=path)
    rng = np.random.default_rng(0)
    assert law.times_s(3, trace.rate_rps, rng).tolist() == pytest.approx(trace.seconds.tolist())
    assert law.times_s(3, 2 * trace.rate_rps, rng).tolist() == pytest.approx((trace.seconds / 2).tolist())


def test_a_part_of_a_trace_keeps_its_gaps_in_proportion_and_is_stretched_to_the_asked_rate(
    tmp_path: Path,
) -> None:
    path = write(tmp_path, OWN)  # its first two rows come 0.5 s apart, all four within 5 s
    own_rps = choose(LOADS, {"kind": "trace", "path": path}, "x.toml", "load").rate_rps(None, 1.0)
    requests = draw_requests(traffic(path), rate_rps=own_rps, duration_s=5)
    assert [r.due_s for r in requests] == pytest.approx([s * (2 / own_rps) / 2 for s in (0, 0.5, 2)])


def test_a_longer_run_begins_the_trace_anew_one_mean_gap_after_its_end(tmp_path: Path) -> None:
    path = write(tmp_path, OWN)  # 4 rows in 5 s: a round takes 5 + 5 / 3 s
    times_s = Replay(path=path).times_s(10, 3 / 5, np.random.default_rng(0))
    rounds = [s + r * 20 / 3 for r in range(3) for s in (0, 0.5, 2, 5)][:10]
    # Ten rows end within a round, whose rate is not the trace's; as a whole they have the asked one.
    assert times_s.tolist() == pytest.approx([s * (9 / (3 / 5)) / rounds[-1] for s in rounds])
    whole = Replay(path=path).times_s(8, 3 / 5, np.random.default_rng(0))
    assert whole.tolist() == pytest.approx([*rounds[:8]])


@given(
    gaps=st.lists(st.integers(0, 1000), min_size=1, max_size=30).filter(any),
    n=st.integers(1, 100),
    rate_rps=st.floats(1e-3, 1e4),
    start=st.sampled_from(["first", "drawn"]),
    seed=st.integers(0, 2**32),
)
def test_any_trace_gives_exactly_n_ascending_times_in_n_over_rate_seconds(
    tmp_path_factory: pytest.TempPathFactory,
    gaps: list[int],
    n: int,
    rate_rps: float,
    start: str,
    seed: int,
) -> None:
    seconds = np.cumsum([0, *gaps])
    rows = "".join(f"{s},1,1\n" for s in seconds)
    name = f"{hash(tuple(gaps)) & 0xFFFFFFFF:x}.csv"
    path = write(tmp_path_factory.getbasetemp(), "timestamp,input_tokens,output_tokens\n" + rows, name)
    law = choose(ARRIVALS, {"kind": "trace", "path": path, "start": start}, "x.toml", "workload.arrivals")
    times_s = law.times_s(n, rate_rps, np.random.default_rng(seed))
    assert len(times_s) == n
    assert times_s[0] == 0
    assert times_s[-1] < n / rate_rps
    assert np.all(np.diff(times_s) >= 0)


@pytest.mark.parametrize("start", ["first", "drawn"])
def test_a_request_keeps_the_lengths_of_its_own_row_wherever_the_replay_begins(
    tmp_path: Path, start: Start
) -> None:
    path = write(tmp_path, OWN)
    trace = read_trace(path)
    starts = set()
    for seed in range(12):
        requests = draw_requests(traffic(path, start=start, seed=(seed, 1)), rate_rps=0.6, n=8)
        rows = [len(r.prompt_ids) - 5 for r in requests]
        assert rows == [(rows[0] + i) % 4 for i in range(8)]
        assert [r.output_tokens for r in requests] == [1 + row for row in rows]
        gaps_s = np.diff([r.due_s for r in requests])
        expected_s = np.diff(trace.times_s(rows[0], 8))
        assert np.allclose(gaps_s / gaps_s.sum(), expected_s / expected_s.sum())
        starts.add(rows[0])
    assert starts == ({0} if start == "first" else {0, 1, 2, 3})


def test_saturating_requests_are_the_rows_in_turn_chunk_after_chunk(tmp_path: Path) -> None:
    laws = traffic(write(tmp_path, OWN))
    first = draw_saturating(laws, n=3)
    second = draw_saturating(laws, n=3, first_uid=3)
    assert [r.output_tokens for r in first + second] == [1, 2, 3, 4, 1, 2]


@pytest.mark.parametrize("start", ["first", "drawn"])
def test_what_is_drawn_apart_goes_on_at_the_next_row_in_lengths_and_in_gaps(
    tmp_path: Path, start: Start
) -> None:
    path = write(tmp_path, OWN)
    trace, rate_rps = read_trace(path), 0.6
    starts = set()
    for seed in range(12):
        window = draw_requests(traffic(path, start=start, seed=(seed, 1)), rate_rps=rate_rps, n=6)
        tail = draw_requests(
            traffic(path, start=start, seed=(seed, 1, 2)),
            rate_rps=rate_rps,
            n=7,
            start_s=6 / rate_rps,
            first_uid=6,
        )
        rows = [r.output_tokens - 1 for r in window + tail]
        assert rows == [(rows[0] + i) % 4 for i in range(13)]
        assert [r.uid for r in window + tail] == list(range(13))
        assert tail[0].due_s == pytest.approx(6 / rate_rps)
        gaps_s = np.diff([r.due_s for r in tail])
        expected_s = np.diff(trace.times_s(rows[6], 7))
        assert np.allclose(gaps_s / gaps_s.sum(), expected_s / expected_s.sum())
        assert [r.prompt_ids for r in window] != [r.prompt_ids for r in tail[:6]]
        starts.add(rows[0])
    assert starts == ({0} if start == "first" else {0, 1, 2, 3})


def test_chunks_of_a_drawn_start_are_one_replay(tmp_path: Path) -> None:
    path = write(tmp_path, OWN)
    chunks = [
        draw_saturating(traffic(path, start="drawn", seed=(3, 0, number)), n=3, first_uid=3 * number)
        for number in range(4)
    ]
    rows = [r.output_tokens - 1 for chunk in chunks for r in chunk]
    assert rows == [(rows[0] + i) % 4 for i in range(12)]


def test_lengths_of_a_trace_go_with_other_arrivals_and_the_other_way_round(tmp_path: Path) -> None:
    path = write(tmp_path, OWN)
    steady = traffic(path, arrivals=choose(ARRIVALS, "steady", "x.toml", "workload.arrivals"))
    requests = draw_requests(steady, rate_rps=2, n=5)
    assert [(len(r.prompt_ids), r.output_tokens) for r in requests] == [
        (5, 1),
        (6, 2),
        (7, 3),
        (8, 4),
        (5, 1),
    ]
    constant = traffic(path, input_tokens=Constant(tokens=9))
    assert {len(r.prompt_ids) for r in draw_requests(constant, rate_rps=2, n=5)} == {9}


def test_a_max_cuts_longer_rows_and_says_how_many(tmp_path: Path) -> None:
    path = write(tmp_path, OWN)
    laws = traffic(path, input_tokens=FromTrace(path=path, column="input_tokens", max=6))
    requests = draw_requests(laws, rate_rps=2, n=4)
    assert [len(r.prompt_ids) for r in requests] == [5, 6, 6, 6]
    assert laws.input_tokens.longest == 6
    assert schedule_facts(laws, requests)["clipped_rows"] == {"input_tokens": 2}


def test_a_row_beyond_the_models_context_is_named_and_pairs_count_not_the_extremes(tmp_path: Path) -> None:
    path = write(tmp_path, "timestamp,input_tokens,output_tokens\n0,90,5\n\n1,5,90\n2,60,45\n3,52,50\n")
    check_context(traffic(path, max_context=105))
    with pytest.raises(
        ConfigError, match=r"line 5: 60 input and 45 output tokens, together 105, .* is 101"
    ) as e:
        check_context(traffic(path, max_context=101))
    assert "2 of 4 rows" in str(e.value)
    assert "max" in str(e.value)
    capped = FromTrace(path=path, column="output_tokens", max=40)
    check_context(traffic(path, max_context=101, output_tokens=capped))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "line 1: no column timestamp or TIMESTAMP in its header (empty)"),
        ("timestamp,input_tokens,output_tokens\n", "has 0 row(s) and spans no time"),
        ("timestamp,input_tokens,output_tokens\n1,2,3\n", "has 1 row(s) and spans no time"),
        ("timestamp,input_tokens,output_tokens\n1,2,3\n1,2,3\n", "has 2 row(s) and spans no time"),
        (OWN.replace("input_tokens", "prompt"), "line 1: no column input_tokens or ContextTokens"),
        (OWN.replace("user", "TIMESTAMP"), "line 1: more than one column timestamp"),
        (OWN.replace("12,7", "9,7"), "line 4: timestamp = '9' is before the row above it; sort"),
        (OWN.replace("12,7", "12,-7"), "line 4: input_tokens = '-7' is no whole number of at least 1"),
        (OWN.replace("15,8,4", "15,8,0"), "line 5: output_tokens = '0' is no whole number"),
        (OWN.replace("15,8,4", "15,8,2.5"), "line 5: output_tokens = '2.5' is no whole number"),
        (OWN.replace("15,8,4", "15,8,"), "line 5: output_tokens = '' is no whole number"),
        (OWN.replace("12,7", "noon,7"), "line 4: timestamp = 'noon' is no time"),
        (OWN.replace("12,7", "nan,7"), "line 4: timestamp = 'nan' is no time"),
        (OWN.replace("12,7", "2024-05-12 00:00:00,7"), "is no time; write seconds, or date and time, alike"),
        (OWN.replace("c,12,7,3", "c,12,7"), "line 4: has 3 columns where the header has 4"),
        (OWN.replace("b,10.5", "\n\nb,oops"), "line 5: timestamp = 'oops'"),
        (
            AZURE_2023.replace("04.0319600", "75.03"),
            "line 3: TIMESTAMP = '2023-11-16 18:17:75.03' is no time",
        ),
        (AZURE_2024.replace("00:00:00+00:00", "00:00:00"), "line 3: TIMESTAMP = '2024-05-12 00:00:00' is no"),
    ],
)
def test_a_bad_trace_is_one_line_with_file_line_column_and_remedy(
    tmp_path: Path, text: str, expected: str
) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        choose(ARRIVALS, {"kind": "trace", "path": path}, "x.toml", "workload.arrivals")
    line = str(caught.value)
    assert line.startswith("x.toml: workload.arrivals")
    assert f"the trace {path}" in line
    assert expected in line
    assert "\n" not in line


@pytest.mark.parametrize(
    "content", [b"\xff\xfe\x00", b"timestamp,input_tokens,output_tokens\n1,\xff,2\n2,1,1\n"]
)
def test_a_file_that_is_no_text_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="cannot be read as CSV"):
        choose(LENGTHS, {"kind": "trace", "path": str(path), "column": "input_tokens"}, "x.toml", "w")


def test_a_missing_trace_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"the trace nowhere.csv cannot be read \(No such file"):
        choose(LOADS, {"kind": "trace", "path": "nowhere.csv"}, "x.toml", "load")


def test_a_trace_that_was_changed_is_read_again(tmp_path: Path) -> None:
    path = write(tmp_path, OWN)
    assert read_trace(path).n == 4
    assert read_trace(write(tmp_path, AZURE_2024)).n == 3


def experiment(load: object = "requests_per_day", **workload: object) -> Experiment:
    laws = {"arrivals": "steady", "input_tokens": "trace", "output_tokens": "trace"} | workload
    written = {
        "name": "t",
        "workload": {"requests_per_day": 1000, **laws},
        "load": load,
        "model": {"id": "tiny"},
        "systems": {"a": {"precision": "fp32"}},
    }
    return decode_experiment(written, "configs/x.toml")


def test_everything_takes_the_trace_of_the_arrivals_beside_the_experiment_file(tmp_path: Path) -> None:
    write(tmp_path, OWN, "own.csv")
    arrivals = {"kind": "trace", "path": "own.csv", "start": "drawn"}
    where = str(tmp_path / "x.toml")
    filled = with_trace(
        experiment("trace", arrivals=arrivals, output_tokens={"kind": "trace", "max": 3}), where
    )
    path = str(tmp_path / "own.csv")
    workload = filled.workload
    assert choose(ARRIVALS, workload.arrivals, where, "a") == Replay(path=path, start="drawn")
    inputs = choose(LENGTHS, workload.input_tokens, where, "i")
    outputs = choose(LENGTHS, workload.output_tokens, where, "o")
    assert inputs == FromTrace(path=path, column="input_tokens", start="drawn")
    assert outputs == FromTrace(path=path, column="output_tokens", start="drawn", max=3)
    assert choose(LOADS, filled.load, where, "load").rate_rps(None, 1.0) == pytest.approx(3 / 5)


def test_lengths_and_load_may_name_traces_of_their_own_and_absolute_paths_stay(tmp_path: Path) -> None:
    path = write(tmp_path, OWN)
    own = {"kind": "trace", "path": path}
    workload = with_trace(
        experiment(input_tokens=own, output_tokens={"kind": "constant", "tokens": 2}), "elsewhere/x.toml"
    ).workload
    assert workload.input_tokens == own | {"column": "input_tokens"}
    assert workload.output_tokens == {"kind": "constant", "tokens": 2}
    assert workload.arrivals == "steady"


@pytest.mark.parametrize(
    ("made", "key"),
    [
        (experiment(), "workload.input_tokens"),
        (experiment("trace", input_tokens="x", output_tokens="x"), "load"),
    ],
)
def test_a_trace_that_nobody_names_is_asked_for(made: Experiment, key: str) -> None:
    with pytest.raises(ConfigError, match=f"configs/x.toml: {key} is to come from a trace and none is named"):
        with_trace(made, "configs/x.toml")


def test_arrivals_without_a_path_are_refused_by_their_key() -> None:
    filled = with_trace(experiment(arrivals="trace"), "x.toml")
    with pytest.raises(ConfigError, match=r"workload\.arrivals\.path is missing"):
        choose(ARRIVALS, filled.workload.arrivals, "x.toml", "workload.arrivals")


def test_a_replay_at_the_published_rate_is_what_was_published(tmp_path: Path) -> None:
    path = write(tmp_path, AZURE_2024)
    laws = traffic(path, max_context=2000)
    requests = draw_requests(laws, rate_rps=read_trace(path).rate_rps, n=3)
    assert [r.due_s for r in requests] == pytest.approx([0, 0.5, 1.541683])
    assert [(len(r.prompt_ids), r.output_tokens) for r in requests] == [(1452, 3), (584, 1), (862, 38)]


def test_a_round_has_the_rate_of_the_trace() -> None:
    trace = Trace(
        seconds=np.array([0.0, 1.0, 4.0]), input_tokens=np.ones(3, int), output_tokens=np.ones(3, int)
    )
    times_s = trace.times_s(0, 3_001)
    assert times_s[3_000] / 3_000 == pytest.approx(1 / trace.rate_rps)
