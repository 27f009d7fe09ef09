"""The REST API of rollouts: start, look, pause, resume, abort.

Wire format: ``docs/reference/controller-api.md``. Handlers read, hand over and answer; what a rollout does
stands in ``rollouts`` and ``rollout_driver``.
"""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from amalgam8.controller.rollout import Rollout, read_order
from amalgam8.controller.rollouts import Rollouts
from amalgam8.controller.tenants import Tenant, Tenants
from amalgam8.controller.terms import terms_of
from amalgam8.model.errors import InvalidQuery
from amalgam8.model.rule_reader import read_document
from amalgam8.web.app import json_response
from amalgam8.web.auth import Auth


class RolloutsApi:
    """Handlers of everything under ``/v1/rollouts``."""

    def __init__(self, tenants: Tenants, rollouts: Rollouts, auth: Auth) -> None:
        self._tenants = tenants
        self._rollouts = rollouts
        self._auth = auth

    def routes(self) -> list[BaseRoute]:
        return [
            Route("/v1/rollouts", self.any, methods=["GET", "POST"]),
            Route("/v1/rollouts/{id}", self.one),
            Route("/v1/rollouts/{id}/pause", self.pause, methods=["POST"]),
            Route("/v1/rollouts/{id}/resume", self.resume, methods=["POST"]),
            Route("/v1/rollouts/{id}/abort", self.abort, methods=["POST"]),
        ]

    async def any(self, request: Request) -> Response:
        """``GET`` lists, the newest first; ``POST`` starts one."""
        tenant = await self._tenant(request)
        if request.method == "GET":
            found = [self._rollouts.shown(tenant, one) for one in await self._rollouts.all(tenant)]
            return json_response({"rollouts": found})
        order = read_order(read_document(await request.body()))
        rollout = await self._rollouts.start(tenant, order, terms_of(request).author)
        return json_response(self._rollouts.shown(tenant, rollout), 201)

    async def one(self, request: Request) -> Response:
        """``GET /v1/rollouts/{id}``."""
        tenant = await self._tenant(request)
        return self._answer(tenant, await self._rollouts.find(tenant, request.path_params["id"]))

    async def pause(self, request: Request) -> Response:
        """``POST /v1/rollouts/{id}/pause``."""
        tenant = await self._tenant(request)
        return self._answer(tenant, await self._rollouts.pause(tenant, request.path_params["id"]))

    async def resume(self, request: Request) -> Response:
        """``POST /v1/rollouts/{id}/resume``."""
        tenant = await self._tenant(request)
        return self._answer(tenant, await self._rollouts.resume(tenant, request.path_params["id"]))

    async def abort(self, request: Request) -> Response:
        """``POST /v1/rollouts/{id}/abort``."""
        tenant = await self._tenant(request)
        return self._answer(tenant, await self._rollouts.abort(tenant, request.path_params["id"]))

    async def _tenant(self, request: Request) -> Tenant:
        """The request's tenant, once it is known that nothing in the query was meant."""
        name = self._auth.tenant_of(request)
        if unknown := sorted(request.query_params):
            raise InvalidQuery(f"{unknown[0]} is no parameter; there is none")
        return await self._tenants.get(name)

    def _answer(self, tenant: Tenant, rollout: Rollout) -> Response:
        return json_response(self._rollouts.shown(tenant, rollout))
