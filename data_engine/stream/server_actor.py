"""I/O servers as Ray actors, on whatever machines the cluster has.

Answers come through the object store, as that is how bytes get from one machine of a cluster to another; they are
copied out and dropped from it as they come, so that it holds those of `servers * ahead` requests at most.
"""

import os
import pickle
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from data_engine import machine
from data_engine.runners.needs import MIB, Needs
from data_engine.runners.ray import ending, release
from data_engine.runners.ray_cluster import bound, room, start
from data_engine.stream.messages import Answer, answer, dump
from data_engine.stream.server_process import DeadServerError

NEEDS = Needs(("I/O servers",), memory=1024 * MIB)  # torch and transformers imported: 490; pictures being decoded


class _Server:
    """What runs in the actor."""

    def load(self, work: bytes) -> Answer:
        machine.prepare_worker()
        begun = answer(pickle.loads, work)
        self.work = begun.value
        return replace(begun, value=os.getpid())

    def answer(self, request: Any) -> tuple[bytes, list[Any]]:
        head, beside = dump(answer(self.work, request))
        return head, [np.frombuffer(memory, np.uint8) for memory in beside]


class Actor:
    """One server. It answers in the order it is asked in; its first answer, to nothing, says that it has begun."""

    def __init__(self, ray: Any, actor: Any, work: Any) -> None:
        self.ray, self.actor, self.name = ray, actor, "an actor not yet begun"
        self.answers = deque([actor.load.remote(work)])

    def ask(self, request: Any) -> None:
        self.answers.append(self.actor.answer.remote(request))

    def take(self) -> Answer:
        """The next answer; waits for it. Raises DeadServerError."""
        try:
            found = self.ray.get(self.answers.popleft())
        except self.ray.exceptions.RayTaskError as error:  # what it returned cannot be pickled
            return Answer(error=error.cause or error, at=time.monotonic())
        except self.ray.exceptions.RayError as death:
            raise DeadServerError(ending(death)) from None
        if isinstance(found, Answer):
            self.name = f"actor in process {found.value}"
        else:
            head, beside = found
            found = pickle.loads(head, buffers=[bytearray(memory) for memory in beside])
        told: Answer = replace(found, at=time.monotonic())  # another machine's clock is not ours
        return told

    def end(self) -> None:
        self.ray.kill(self.actor)


class Actors:
    """Starts servers of one work, as many as the cluster has room for."""

    def __init__(self, work: bytes, servers: int) -> None:
        self.ray = start()
        release(self.ray)  # workers that this driver's curation kept for more: they hold the cores
        self.work = self.ray.put(work)
        nodes = [node["Resources"] for node in self.ray.nodes() if node["Alive"]]
        self.servers = min(servers, room(nodes, NEEDS))
        print(bound(nodes, NEEDS, self.servers), file=sys.stderr, flush=True)

    def start(self) -> Actor:
        options = {"num_cpus": NEEDS.cpus, "memory": NEEDS.memory, "max_restarts": 0, "max_task_retries": 0}
        return Actor(self.ray, self.ray.remote(**options)(_Server).remote(), self.work)

    def wait(self, servers: Sequence[Actor], timeout: float | None) -> list[Actor]:
        """Those that have answered or ended."""
        asked = {server.answers[0]: server for server in servers if server.answers}
        done, _ = self.ray.wait(list(asked), timeout=timeout)
        if not done:  # an answer still on its way from another machine is an answer: that server does not hang
            done, _ = self.ray.wait(list(asked), timeout=0, fetch_local=False)
        return [asked[call] for call in done]

    def close(self) -> None:
        del self.work
