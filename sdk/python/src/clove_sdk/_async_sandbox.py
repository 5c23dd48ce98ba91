# SPDX-License-Identifier: MIT
"""A box that a client makes for its own commands and files."""

from __future__ import annotations

import uuid
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ._arguments import Command, Data, Environment, Path
from ._async_transport import Mutex
from ._errors_base import ConnectionError
from ._wire_errors import AgentNotFound
from .models import ExecResult, FileContent, WriteResult

if TYPE_CHECKING:
    from ._async_client import AsyncCloveClient

# Holds the box open: it is an agent like any other, whose program does nothing.
PROGRAM = ["sleep", "infinity"]


class AsyncSandbox:
    """What sandbox() of a client gives. Made when it is entered or first used; close() ends it with all that
    runs in it.
    """

    def __init__(self, client: AsyncCloveClient, options: dict[str, Any]) -> None:
        name = options.pop("name")
        self._client = client
        self._options = options
        self._name: str = f"sandbox-{uuid.uuid4().hex[:16]}" if name is None else name
        self._mutex = Mutex()
        self._id: int | None = None
        self._closed = False
        self.connection: object = None

    @property
    def name(self) -> str:
        """Of the agent that holds it, as in list_agents()."""
        return self._name

    @property
    def agent_id(self) -> int | None:
        """Of that agent; None before the box is made."""
        return self._id

    async def start(self) -> int:
        """Makes the box unless it is there; the agent_id. Errors as of spawn()."""
        async with self._mutex:
            if self._closed:
                raise ConnectionError("the sandbox is closed")
            if self._id is None:
                spawned = await self._client.spawn(
                    self._name, argv=PROGRAM, tied=True, rights=[], **self._options
                )
                self._id = spawned.agent_id
                self.connection = self._client._transport
            return self._id

    async def exec(
        self,
        command: Command,
        cwd: Path | None = None,
        timeout: float | None = 30,
        *,
        env: Environment | None = None,
        stdin: Data | None = None,
        check: bool = False,
        output_max: int | None = None,
    ) -> ExecResult:
        """As exec() of the client, in the box, from /workspace."""
        return await self._client.exec(
            command,
            cwd,
            timeout,
            env=env,
            stdin=stdin,
            check=check,
            output_max=output_max,
            agent=await self.start(),
        )

    async def read_file(self, path: Path) -> FileContent:
        """As read_file() of the client, in the box, relative to /workspace."""
        return await self._client.read_file(path, agent=await self.start())

    async def write_file(self, path: Path, content: Data, mode: str = "write") -> WriteResult:
        """As write_file() of the client, in the box, relative to /workspace."""
        return await self._client.write_file(path, content, mode, agent=await self.start())

    async def close(self) -> None:
        """Ends everything in the box. Again: does nothing."""
        self._closed = True
        if self._id is None:
            return
        try:
            await self._client.kill(agent_id=self._id)
        except (AgentNotFound, ConnectionError):
            pass  # it ended by itself, or with the connection
        self._id = None

    async def __aenter__(self) -> AsyncSandbox:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()
