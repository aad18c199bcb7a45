"""The web app: pages made on the server, a little JavaScript for the keyboard, and the store behind both."""

import json
import mimetypes
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, get_args

import sqlalchemy as sa
from fastapi import APIRouter, Depends, FastAPI, Form, HTTPException, Request, Response
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, RedirectResponse
from fastapi.staticfiles import StaticFiles
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cot_factory.record import Action, Decision, Task
from cot_factory.review import accounts, pages, statistics, store
from cot_factory.review.accounts import User
from cot_factory.review.formulas import drawn
from data_engine.media import MediaStore, upright_size
from data_engine.report import palette

COOKIE = "keyeforge_review"
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "media-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
STATIC = Path(__file__).parent / "static"
LONGEST = 20_000


class RefusedError(Exception):
    """Who asks is not signed in: a page goes to the sign-in, a request is told so."""


@dataclass(frozen=True, slots=True)
class Review:
    """What the routes share. `lease`: seconds a task stays with somebody whose page says nothing."""

    engine: sa.Engine
    media: MediaStore
    lease: float
    clock: Callable[[], float]


class Work(BaseModel):
    """What a page sends of a task: the lease's token, and the chain as it stands there."""

    model_config = ConfigDict(extra="forbid")

    token: int = Field(ge=0, lt=2**63)
    action: Action | None = None
    steps: tuple[Annotated[str, Field(max_length=LONGEST)], ...] = Field(default=(), max_length=2000)
    answer: str = Field(default="", max_length=LONGEST)
    why: str = Field(default="", max_length=LONGEST)


class Words(BaseModel):
    """Texts to be shown with their formulas drawn."""

    texts: tuple[Annotated[str, Field(max_length=LONGEST)], ...] = Field(max_length=200)


def make_app(engine: sa.Engine, media: MediaStore, lease: float, clock: Callable[[], float] = time.time) -> FastAPI:
    """The app over a queue."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.state.review = Review(engine, media, lease, clock)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    app.include_router(router)
    app.add_middleware(_WithHeaders)
    app.add_exception_handler(RefusedError, _refused)
    return app


class _WithHeaders:
    """Adds `HEADERS` to every reply; pages are not kept by browsers, what is static is asked about anew."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        fresh = "no-cache" if scope.get("path", "").startswith("/static/") else "no-store"

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                found = MutableHeaders(scope=message)
                for name, value in {**HEADERS, "Cache-Control": fresh}.items():
                    found.setdefault(name, value)
            await send(message)

        await self.app(scope, receive, sending)


def _refused(request: Request, _error: Exception) -> Response:
    if request.method == "POST":
        return JSONResponse({"error": "signed out; sign in again in another tab, and send once more"}, 401)
    return RedirectResponse("/sign-in", 303)


router = APIRouter()


def _review(request: Request) -> Review:
    found: Review = request.app.state.review
    return found


This = Annotated[Review, Depends(_review)]


def _signed_in(request: Request, this: This) -> User:
    """Who asks. A request that changes something carries their session's token. Raises RefusedError."""
    found = accounts.who(this.engine, request.cookies.get(COOKIE, ""), this.clock())
    if found is None:
        raise RefusedError
    if request.method == "POST":
        _require_csrf(request, found)
    return found


Signed = Annotated[User, Depends(_signed_in)]


@router.get("/palette.css")
def colours() -> Response:
    return Response(palette.css(), media_type="text/css", headers={"Cache-Control": "max-age=3600"})


@router.get("/sign-in", response_class=HTMLResponse)
def sign_in_page() -> str:
    return pages.render("sign_in", error="")


@router.post("/sign-in", response_class=HTMLResponse)
def sign_in(request: Request, this: This, name: Annotated[str, Form()], password: Annotated[str, Form()]) -> Response:
    if not _own_site(request):
        raise HTTPException(403, "the form came from another site")
    try:
        secret = accounts.sign_in(this.engine, name, password, this.clock())
    except accounts.AccountError as error:
        return HTMLResponse(pages.render("sign_in", error=str(error)), 403)
    response = RedirectResponse("/", 303)
    response.set_cookie(
        COOKIE,
        secret,
        httponly=True,
        samesite="lax",
        secure=request.url.scheme == "https",
        max_age=int(accounts.LASTS),
    )
    return response


@router.post("/sign-out")
def sign_out(request: Request, this: This, who: Signed) -> Response:
    accounts.sign_out(this.engine, request.cookies[COOKIE], who.name, this.clock())
    response = JSONResponse({"next": "/sign-in"})
    response.delete_cookie(COOKIE)
    return response


@router.get("/", response_class=HTMLResponse)
def next_task(this: This, who: Signed) -> str:
    held = store.claim(this.engine, who.name, this.clock(), this.lease)
    if held is None:
        return pages.render("done", user=who, page="task", progress=store.progress(this.engine))
    return _task_page(held, who, store.progress(this.engine), [], this.lease, this.media)


@router.get("/adjudicate", response_class=HTMLResponse)
def next_contested(this: This, who: Signed) -> str:
    if not who.adjudicates:
        raise HTTPException(403, "adjudicating takes the role adjudicator")
    held = store.claim(this.engine, who.name, this.clock(), this.lease, adjudicate=True)
    if held is None:
        return pages.render("done", user=who, page="adjudicate", progress=store.progress(this.engine))
    told = store.decisions_on(this.engine, held.task.id)
    return _task_page(held, who, store.progress(this.engine), told, this.lease, this.media)


@router.post("/task/{name:path}/beat")
def beat(name: str, work: Work, this: This, who: Signed) -> Response:
    try:
        store.beat(this.engine, who.name, name, work.token, _draft(work), this.clock(), this.lease)
    except store.StaleError:
        return _stale()
    return JSONResponse({"lease": this.lease})


@router.post("/task/{name:path}/decide")
def decide(name: str, work: Work, this: This, who: Signed) -> Response:
    if work.action is None:
        raise HTTPException(422, f"action: one of {', '.join(get_args(Action))}")
    if work.action in {"reject", "escalate"} and not work.why.strip():
        raise HTTPException(422, f"{work.action}: say why in a few words")
    if work.action == "fix" and not [text for text in work.steps if text.strip()]:
        raise HTTPException(422, "fix: no step is left; reject the chain instead")
    steps = tuple(text for text in work.steps if text.strip()) if work.action == "fix" else ()
    answer = work.answer if work.action == "fix" else ""
    decision = Decision(name, who.name, work.action, steps, answer, work.why)
    try:
        store.decide(this.engine, who.name, work.token, decision, this.clock(), _draft(work))
    except store.StaleError:
        return _stale()
    return JSONResponse({"next": "/"})


@router.post("/preview", dependencies=[Depends(_signed_in)])
def preview(words: Words) -> Response:
    return JSONResponse({"texts": [str(drawn(text)) for text in words.texts]})


@router.get("/me", response_class=HTMLResponse)
def mine(this: This, who: Signed) -> str:
    own = statistics.of_user(this.engine, who.name)
    return pages.render("me", user=who, page="me", own=own, progress=store.progress(this.engine))


@router.get("/admin", response_class=HTMLResponse)
def admin(this: This, who: Signed) -> str:
    return _admin_page(this.engine, _require_admin(who), "")


@router.post("/admin/accounts", response_class=HTMLResponse)
def add_account(
    this: This,
    who: Signed,
    name: Annotated[str, Form()],
    password: Annotated[str, Form()],
    role: Annotated[str, Form()],
) -> str:
    _require_admin(who)
    try:
        accounts.add(this.engine, name, password, role, this.clock(), by=who.name)  # type: ignore[arg-type]
    except accounts.AccountError as error:
        return _admin_page(this.engine, who, str(error))
    return _admin_page(this.engine, who, f"{name} may sign in now")


@router.get("/media/{key}", dependencies=[Depends(_signed_in)])
def medium(key: str, this: This) -> Response:
    try:
        path = this.media.local(key)
    except (ValueError, OSError) as error:
        raise HTTPException(404, "no such medium") from error
    if not path.is_file():
        raise HTTPException(404, "no such medium")
    # What is no picture and no film is bytes to a browser, and nothing from the store may act as a page of ours.
    kind = mimetypes.guess_type(key)[0] or ""
    shown = kind if kind.startswith(("image/", "video/")) else "application/octet-stream"
    headers = {"Cache-Control": "private, max-age=86400", "Content-Security-Policy": "default-src 'none'; sandbox"}
    return FileResponse(path, media_type=shown, headers=headers)


def _require_csrf(request: Request, user: User) -> None:
    """A request that changes something carries the session's token, in a header or as a query of a form's address."""
    told = request.headers.get("x-csrf-token") or request.query_params.get("csrf", "")
    if not accounts.same(told, user.csrf):
        raise HTTPException(403, "the page is out of date; load it again")


def _own_site(request: Request) -> bool:
    """Browsers tell from which site a form came (Fetch Metadata); a sign-in has no session's token yet."""
    return request.headers.get("sec-fetch-site", "same-origin") in {"same-origin", "none"}


def _require_admin(user: User) -> User:
    if user.role != "admin":
        raise HTTPException(403, "this page is the admin's")
    return user


def _draft(work: Work) -> str:
    return json.dumps({"steps": work.steps, "answer": work.answer, "why": work.why}, ensure_ascii=False)


def _stale() -> Response:
    said = "Your lease on this task is over and the task is with somebody else or done. What you wrote is kept for you."
    return JSONResponse({"stale": True, "error": said}, 409)


def _task_page(
    held: store.Lease, who: User, progress: dict[str, int], told: list[Decision], lease: float, media: MediaStore
) -> str:
    return pages.render(
        "task", user=who, page="adjudicate" if held.adjudicates else "task", held=held, task=held.task, told=told,
        progress=progress, changes=pages.changes(held.task), lease=lease, sizes=_sizes(held.task, media),
    )  # fmt: skip


def _sizes(task: Task, media: MediaStore) -> list[tuple[int, int] | None]:
    """Width and height of pictures that have boxes drawn over them."""
    return [_size(media, one.key) if one.boxes and one.kind == "image" else None for one in task.media]


@lru_cache(maxsize=4096)
def _size(media: MediaStore, key: str) -> tuple[int, int] | None:
    try:
        with Image.open(media.local(key)) as picture:
            return upright_size(picture)  # as browsers show it
    except (OSError, ValueError, Image.DecompressionBombError):
        return None


def _admin_page(engine: sa.Engine, who: User, said: str) -> str:
    values: dict[str, Any] = {"people": statistics.of_all(engine), "log": statistics.latest(engine, 40)}
    return pages.render(
        "admin", user=who, page="admin", said=said, roles=accounts.ROLES, progress=store.progress(engine), **values
    )
