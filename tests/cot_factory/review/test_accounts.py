"""Who may enter, and what a request must carry."""

from pathlib import Path

import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient

from cot_factory.review import accounts, store
from cot_factory.review.accounts import AccountError
from cot_factory.review.app import COOKIE, make_app
from cot_factory.review.tables import sessions, users
from data_engine.media import MediaStore
from tests.cot_factory.review.annotators import PASSWORD, add_people, some_tasks


def test_a_password_is_kept_as_a_hash_and_a_session_as_another(queue: sa.Engine) -> None:
    accounts.add(queue, "ann", PASSWORD, "annotator", 0.0)
    secret = accounts.sign_in(queue, "ann", PASSWORD, 0.0)
    with queue.connect() as db:
        (password,), (session,) = db.scalars(sa.select(users.c.password)), db.scalars(sa.select(sessions.c.hash))
    assert password.startswith("$argon2id$")
    assert PASSWORD not in password
    assert session != secret
    found = accounts.who(queue, secret, accounts.LASTS - 1)
    assert found is not None
    assert (found.name, found.role) == ("ann", "annotator")
    assert accounts.who(queue, secret, accounts.LASTS + 1) is None
    assert accounts.who(queue, session, 1.0) is None
    accounts.sign_out(queue, secret, "ann", 2.0)
    assert accounts.who(queue, secret, 3.0) is None


def test_wrong_passwords_are_slowed_down(queue: sa.Engine) -> None:
    accounts.add(queue, "ann", PASSWORD, "annotator", 0.0)
    for _ in range(accounts.FREE_TRIES):
        with pytest.raises(AccountError, match="wrong name or password"):
            accounts.sign_in(queue, "ann", "guess", 0.0)
    with pytest.raises(AccountError, match="try again in 30 seconds"):
        accounts.sign_in(queue, "ann", PASSWORD, 0.0)
    assert accounts.sign_in(queue, "ann", PASSWORD, accounts.PENALTY + 1)
    with pytest.raises(AccountError, match="wrong name or password"):
        accounts.sign_in(queue, "nobody", PASSWORD, 0.0)


@pytest.mark.parametrize(
    ("name", "password", "role", "word"),
    [
        ("a<b>", PASSWORD, "annotator", "letters"),
        ("ann", "short", "annotator", "10 or more"),
        ("ann", PASSWORD, "king", "one of"),
        ("taken", PASSWORD, "admin", "taken"),
    ],
)
def test_accounts_that_cannot_be_made_say_why(queue: sa.Engine, name: str, password: str, role: str, word: str) -> None:
    accounts.add(queue, "taken", PASSWORD, "annotator", 0.0)
    with pytest.raises(AccountError, match=word):
        accounts.add(queue, name, password, role, 0.0)  # type: ignore[arg-type]


@pytest.fixture
def client(queue: sa.Engine, tmp_path: Path) -> TestClient:
    add_people(queue, 1)
    store.load(queue, some_tasks(2), 1, 0.0)
    return TestClient(make_app(queue, MediaStore(tmp_path / "media"), 60.0), follow_redirects=False)


def signed_in(client: TestClient) -> dict[str, str]:
    reply = client.post("/sign-in", data={"name": "person-00", "password": PASSWORD})
    assert reply.status_code == 303
    cookie = reply.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie
    return {"X-CSRF-Token": accounts.csrf_of(client.cookies[COOKIE])}


@pytest.mark.parametrize("address", ["/", "/me", "/admin", "/adjudicate", "/media/" + "0" * 64 + ".png"])
def test_nothing_is_shown_to_who_is_not_signed_in(client: TestClient, address: str) -> None:
    reply = client.get(address)
    assert (reply.status_code, reply.headers["location"]) == (303, "/sign-in")


def test_a_change_needs_the_sessions_token(client: TestClient) -> None:
    headers = signed_in(client)
    body = {"token": 1, "action": "accept"}
    client.get("/")
    for wrong in ({}, {"X-CSRF-Token": "0" * 64}):
        assert client.post("/task/task-000001/decide", json=body, headers=wrong).status_code == 403
        assert client.post("/preview", json={"texts": ["x"]}, headers=wrong).status_code == 403
    assert client.post("/preview", json={"texts": ["<b>"]}, headers=headers).json() == {"texts": ["&lt;b&gt;"]}
    forged = client.post(
        "/sign-in", data={"name": "person-00", "password": PASSWORD}, headers={"Sec-Fetch-Site": "cross-site"}
    )
    assert forged.status_code == 403


def test_an_annotator_is_no_admin_and_no_adjudicator(client: TestClient) -> None:
    headers = signed_in(client)
    assert client.get("/admin").status_code == client.get("/adjudicate").status_code == 403
    form = {"name": "eve", "password": PASSWORD, "role": "admin"}
    assert client.post("/admin/accounts", data=form, headers=headers).status_code == 403


def test_pages_carry_the_policy_that_no_script_of_others_runs(client: TestClient) -> None:
    reply = client.get("/sign-in")
    policy = reply.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe-inline" not in policy
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"token": 1, "action": "reject"}, 422),  # without a reason
        ({"token": 1, "action": "fix", "steps": [" "]}, 422),  # without a step
        ({"token": 1, "action": "burn"}, 422),
        ({"token": 1, "action": "accept", "more": 1}, 422),
        ({"token": 999, "action": "accept"}, 409),  # of a lease that is not theirs
    ],
)
def test_what_cannot_be_decided_is_refused(client: TestClient, body: dict[str, object], status: int) -> None:
    headers = signed_in(client)
    client.get("/")
    assert client.post("/task/task-000001/decide", json=body, headers=headers).status_code == status


def test_media_are_those_of_the_store_and_no_other_file(client: TestClient, tmp_path: Path) -> None:
    signed_in(client)
    (tmp_path / "secret").write_text("secret")
    key = MediaStore(tmp_path / "media").put_bytes(b"0123456789", ".mp4")
    part = client.get(f"/media/{key}", headers={"Range": "bytes=2-4"})
    assert (part.status_code, part.content) == (206, b"234")
    for wrong in ("..%2Fsecret", "%2e%2e%2fsecret", "1" * 64 + ".png", "secret"):
        assert client.get(f"/media/{wrong}").status_code == 404


def test_a_medium_that_is_no_picture_is_no_page(client: TestClient, tmp_path: Path) -> None:
    signed_in(client)
    for suffix in (".html", ".svg"):
        key = MediaStore(tmp_path / "media").put_bytes(b"<script>1</script>", suffix)
        reply = client.get(f"/media/{key}")
        assert reply.status_code == 200
        assert "sandbox" in reply.headers["content-security-policy"]
        assert not reply.headers["content-type"].startswith("text/html")
