"""Which language model answers: one at an endpoint, in workers of a cluster, or in this process."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass

from speechrows.errors import StoreError
from speechrows.errors import UsageError
from speechrows.generate.answering import Answered
from speechrows.generate.answering import Window
from speechrows.generate.answering import WindowedModel
from speechrows.generate.asking import ChatModel
from speechrows.generate.asking import Sampling
from speechrows.generate.workers import by_workers
from speechrows.generate.workers import device_of_workers
from speechrows.storage.hub import no_way_to
from speechrows.workers.work import Engine
from speechrows.workers.work import Progress


def open_model(options: argparse.Namespace, sampling: Sampling, engine: Engine) -> ChatModel:
    """The model that flags name: at --endpoint, in workers of a cluster, or in this process.

    Raises:
        UsageError: there is no such model or device, or an endpoint that --engine ray has no work for.
        StoreError: nobody answers at the endpoint.
    """
    if options.endpoint and engine.cluster_gpus is not None:
        raise UsageError(
            "--endpoint: found --engine ray; the model runs at the endpoint: leave one of them out"
        )
    if options.endpoint:
        from speechrows.generate.endpoint import Endpoint  # noqa: PLC0415  # only one of the two is needed

        endpoint = Endpoint(
            options.endpoint,
            options.model,
            sampling,
            concurrency=options.concurrency,
            requests_per_second=options.requests_per_second,
            api_key_env=options.api_key_env,
        )
        if why := no_way_to(options.endpoint):
            raise StoreError(
                f"--endpoint {options.endpoint}: nobody answers ({why}). Start the server, or mend it"
            )
        return endpoint
    from speechrows.generate.local_model import BATCH_SIZE  # noqa: PLC0415  # it needs torch
    from speechrows.generate.local_model import LocalModel  # noqa: PLC0415

    elsewhere = device_of_workers(options.device, engine)
    if elsewhere:
        batch_size = options.batch_size or BATCH_SIZE[elsewhere]
        opening = _Opening(model=options.model, sampling=sampling, device=elsewhere, batch_size=batch_size)
        return WindowedModel(by_workers(engine, opening, options.model, elsewhere), batch_size)
    return LocalModel(options.model, sampling, device=options.device, batch_size=options.batch_size)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Opening:
    """Opens a model in any process."""

    model: str
    sampling: Sampling
    device: str
    batch_size: int

    def __call__(self, _: Progress) -> Callable[[Window], Answered]:
        from speechrows.generate.local_model import LocalModel  # noqa: PLC0415  # it needs torch

        model = LocalModel(self.model, self.sampling, device=self.device, batch_size=self.batch_size)
        return model.answer
