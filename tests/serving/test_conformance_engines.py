"""The engines under every policy: a request's tokens are its own, whoever runs beside it or fails."""

from __future__ import annotations

import math

import pytest

from bench.clock import WallClock
from bench.config import Model
from bench.model.engines import ENGINES
from bench.model.kv_cache import Auto, resolve
from bench.model.load import LoadedModel, load_model
from bench.model.precision import PRECISIONS
from bench.protocols import Engine, Policy
from bench.records import Completion, Request
from bench.serving.server import Server

from .conformance_bench import SAMPLES, FailOn, Watched
from .traffic import assert_stages_sum_to_latency, poisoned

PATIENCE_S = 60.0
LENGTHS = [(5, 4), (12, 7), (3, 1), (9, 3), (17, 6), (6, 5), (4, 2)]
PAIRS = [
    pytest.param(policy, engine, id=f"{name}, {engine}")
    for engine, row in ENGINES.items()
    for name, policy in SAMPLES.items()
    if row.joins or not policy.joins
    if row.chunks_prefill or policy.prefill_chunk is None
]


FAULTY_PAIRS = [pair for pair in PAIRS if pair.values[0] in (SAMPLES["dynamic"], SAMPLES["continuous"])]


@pytest.fixture(scope="module")
def tiny() -> LoadedModel:
    """The shipped model in FP32, where greedy decoding has one answer."""
    import torch

    torch.set_num_threads(1)
    return load_model(Model(id="tiny"), PRECISIONS["fp32"](), "sdpa", "cpu")


def build(engine: str, loaded: LoadedModel, clock: WallClock, policy: Policy) -> Engine:
    row = ENGINES[engine]()
    return row.build(
        loaded,
        clock,
        slots=policy.max_batch,
        prefill_chunk=policy.prefill_chunk,
        cache=resolve(Auto(), row, None),
        compile=None,
    )


def make_requests() -> list[Request]:
    return [
        Request(
            uid=uid,
            due_s=0.0,
            prompt_ids=tuple(300 + (97 * uid + 31 * k) % 1500 for k in range(prompt)),
            output_tokens=output,
        )
        for uid, (prompt, output) in enumerate(LENGTHS)
    ]


@pytest.fixture(scope="module")
def alone(tiny: LoadedModel) -> dict[int, list[int]]:
    """The tokens of each request when it runs by itself through stock generation."""
    clock = WallClock()
    engine = Watched(build("generate", tiny, clock, SAMPLES["none"]))
    engine.prepare()
    for request in make_requests():
        engine.admit([request])
        while request.uid not in engine.ended:
            engine.step(math.inf)
    engine.close()
    return {request.uid: engine.tokens(request.uid) for request in make_requests()}


def serve(
    policy: Policy, engine: str, loaded: LoadedModel, requests: list[Request], fail_on: FailOn | None = None
) -> tuple[list[Completion], Watched]:
    clock = WallClock()
    watched = Watched(build(engine, loaded, clock, policy), fail_on)
    server = Server(policy, watched, clock, queue_limit=100, timeout_s=math.inf)
    tickets = [server.submit(request) for request in requests]
    server.start()
    try:
        assert server.drain(PATIENCE_S)
    finally:
        watched.close()
    return [ticket.result(0) for ticket in tickets], watched


@pytest.mark.parametrize(("policy", "engine"), PAIRS)
def test_the_tokens_are_those_of_the_request_alone(
    policy: Policy, engine: str, tiny: LoadedModel, alone: dict[int, list[int]]
) -> None:
    outcomes, watched = serve(policy, engine, tiny, make_requests())
    assert [(outcome.uid, outcome.status, outcome.error) for outcome in outcomes] == [
        (uid, "ok", None) for uid in alone
    ]
    assert {uid: watched.tokens(uid) for uid in alone} == alone
    assert watched.most_running <= policy.max_batch
    for outcome in outcomes:
        assert_stages_sum_to_latency(outcome)


@pytest.mark.parametrize(("policy", "engine"), FAULTY_PAIRS)
def test_a_request_at_fault_fails_alone_and_one_that_breaks_the_engine_too(
    policy: Policy, engine: str, tiny: LoadedModel, alone: dict[int, list[int]]
) -> None:
    requests = make_requests()
    unknown_token = Request(uid=90, due_s=0.0, prompt_ids=(300, 1_000_000), output_tokens=3)
    breaker = Request(uid=91, due_s=0.0, prompt_ids=(300, 301, 302), output_tokens=3)
    mixed = [*requests[:2], unknown_token, requests[2], breaker, *requests[3:]]
    outcomes, watched = serve(policy, engine, tiny, mixed, poisoned(91))
    failed = {outcome.uid: outcome.error or "" for outcome in outcomes if outcome.status != "ok"}
    assert failed.keys() == {90, 91}
    assert "vocabulary" in failed[90]
    assert "poison" in failed[91]
    assert {uid: watched.tokens(uid) for uid in alone} == alone
