from __future__ import annotations

import pickle
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from optuna_peppp.studies.failures import may_pass
from optuna_peppp.studies.proxy import TimelyProxy

grpc = pytest.importorskip("grpc", reason="needs grpcio, for Optuna's proxy of storages")
pytest.importorskip("google.protobuf", reason="needs protobuf, for Optuna's proxy")


@pytest.fixture
def silent() -> Iterator[int]:
    """The port of a server that takes all calls and answers none."""
    over = threading.Event()

    def wait(_request: Any, _context: Any) -> bytes:
        over.wait()
        return b""

    class Silence(grpc.GenericRpcHandler):  # type: ignore[name-defined,misc]
        def service(self, _call: Any) -> Any:
            return grpc.unary_unary_rpc_method_handler(wait)

    with ThreadPoolExecutor() as pool:
        server = grpc.server(pool, [Silence()])
        port: int = server.add_insecure_port("127.0.0.1:0")
        server.start()
        yield port
        over.set()
        server.stop(None).wait()


@pytest.mark.parametrize("method", ["get_all_studies", "get_all_trials"])
@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_a_server_that_never_answers(silent: int, method: str) -> None:
    proxy = TimelyProxy(host="127.0.0.1", port=silent, answers_within=0.2)
    for asked in (proxy, pickle.loads(pickle.dumps(proxy))):
        began = time.monotonic()
        with pytest.raises(grpc.RpcError) as caught:
            getattr(asked, method)(*([0] if method == "get_all_trials" else []))
        assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        assert may_pass(caught.value)
        assert 0.2 <= time.monotonic() - began < 30
        asked.close()
