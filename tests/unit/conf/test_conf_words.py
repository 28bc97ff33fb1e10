"""Words of the command line, the application that one may name, and the settings that a wsgi.py would choose."""

from __future__ import annotations

from pathlib import Path

import pytest

from djworker.conf.problems import UnreadableError
from djworker.start import words, wsgi_choice
from djworker.start.application import ApplicationError, Target


@pytest.mark.parametrize(
    "given, app, address",
    [
        ("shop.wsgi", "shop.wsgi", ""),
        ("wsgi", "wsgi", ""),
        ("shop.wsgi:app", "shop.wsgi:app", ""),
        ("shop.wsgi:create('a', b=1) 8000", "shop.wsgi:create('a', b=1)", "8000"),
        ("0.0.0.0:8000 shop.wsgi", "shop.wsgi", "0.0.0.0:8000"),
        ("localhost:8000", "", "localhost:8000"),
        ("[::1]:8000", "", "[::1]:8000"),
        ("unix:/tmp/x.sock", "", "unix:/tmp/x.sock"),
        ("unix:x.sock", "", "unix:x.sock"),
        ("fd://3", "", "fd://3"),
        (":8000", "", ":8000"),
        ("http://127.0.0.1:8000", "", "http://127.0.0.1:8000"),
        ("/tmp/x.sock", "", "/tmp/x.sock"),
    ],
)
def test_which_word_is_what(given: str, app: str, address: str) -> None:
    split = [given.rpartition(" ")[0], given.rpartition(" ")[2]] if given.endswith(" 8000") else given.split()
    found = words.read(split, [], takes_app=True)
    assert (found.app, found.address, found.problems) == (app, address, ())


@pytest.mark.parametrize(
    "word, part",
    [
        ("reload", "djworkerctl reload --wait"),
        ("restart", "djworkerctl reload --wait"),
        ("status", "djworkerctl status"),
        ("stop", "djworkerctl stop"),
        ("start", "leave the word out"),
        ("runserver", "leave the word out"),
        ("help", "--help"),
        ("version", "--version"),
        ("check", "--check"),
        ("shop/wsgi.py", "shop.wsgi"),
        ("./shop/wsgi.py", "shop.wsgi"),
        ("wsgi.py", "wsgi"),
        ("shop/wsgi.py:app", "shop.wsgi:app"),
        ("manage.py", "python manage.py runworkers"),
        ("gunicorn.conf.py", "import-gunicorn gunicorn.conf.py"),
    ],
)
@pytest.mark.parametrize("takes_app", [True, False])
def test_words_that_mean_something_else_get_the_right_answer(word: str, part: str, takes_app: bool) -> None:  # noqa: FBT001
    (problem,) = words.read([word], [], takes_app=takes_app).problems
    assert problem.id == "E031"
    assert part in problem.hint


def test_a_module_under_manage_py_is_told_the_other_form(tmp_path: Path) -> None:
    (tmp_path / "entry.py").touch()
    for word in ("shop.wsgi", "shop.wsgi:app", "shop.asgi", "entry", "entry:create()"):
        (problem,) = words.read([word], [str(tmp_path)], takes_app=False).problems
        assert f"'djworker {word}'" in problem.hint
    assert words.read(["nonsense"], [str(tmp_path)], takes_app=False).address == "nonsense", "bind says what is wrong"


@pytest.mark.parametrize("word", ["shop.wsgi:a b", "shop.wsgi:a[0]", "shop.wsgi:a()()", "shop.wsgi:a +"])
def test_an_application_is_a_name_or_a_call(word: str) -> None:
    (problem,) = words.read([word], [], takes_app=True).problems
    assert "neither a name nor a call" in problem.message


def test_surplus_words_are_told_at_once() -> None:
    (problem,) = words.read(["shop.wsgi", "8000", "8001", "other.wsgi"], [], takes_app=True).problems
    assert problem.message == "unknown words 8001 other.wsgi"


# -- the application


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An importable module with applications of every kind."""
    name = f"entry_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(
        "def application(environ, start_response): ...\n"
        "def create(*args, **kwargs): return lambda environ, start_response: (args, kwargs)\n"
        "async def asgi(scope, receive, send): ...\n"
        "class Asgi:\n    async def __call__(self, scope, receive, send): ...\n"
        "class holder:\n    app = application\n"
        "asgi_object, text, nothing = Asgi(), 'text', None\n"
        "class Unknown:\n"
        "    __signature__ = property(lambda self: StartResponse)  # as Python 3.14's annotations: a type checker imports it\n"
        "    def __call__(self, environ, start_response): return [b'']\n"
        "unknown = Unknown()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    return name


def test_an_application_is_found_under_its_name(module: str) -> None:
    assert Target.parse(module).load().__name__ == "application"
    assert Target.parse(f"{module}:holder.app").load().__name__ == "application"
    made = Target.parse(f"{module}:create('x', 1, debug=True)").load()
    assert made({}, None) == (("x", 1), {"debug": True})


def test_an_application_whose_annotations_cannot_be_evaluated_is_one_all_the_same(module: str) -> None:
    assert Target.parse(f"{module}:unknown").load()({}, None) == [b""]


@pytest.mark.parametrize(
    "name, part",
    [
        ("missing", "has no missing"),
        ("holder.missing", "has no holder.missing"),
        ("text", "as a WSGI application"),
        ("nothing", "as a WSGI application"),
        ("asgi", "ASGI"),
        ("asgi_object", "ASGI"),
        ("create(application)", "literals"),
    ],
)
def test_what_is_no_application_is_said(module: str, name: str, part: str) -> None:
    with pytest.raises(ApplicationError, match=part):
        Target.parse(f"{module}:{name}").load()


def test_a_name_that_no_module_can_have() -> None:
    with pytest.raises(UnreadableError, match=r"write shop\.wsgi"):
        Target.parse("shop/wsgi.py")


# -- what wsgi.py would choose

ON_A_CONDITION = """
if X:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "a")
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "b")
"""


@pytest.mark.parametrize(
    "source, initial, chosen",
    [
        ('os.environ.setdefault("DJANGO_SETTINGS_MODULE", "prod")', None, {"prod"}),
        ('os.environ.setdefault("DJANGO_SETTINGS_MODULE", "prod")', "dev", {"dev"}),
        ('os.environ["DJANGO_SETTINGS_MODULE"] = "prod"', "dev", {"prod"}),
        ('environ["DJANGO_SETTINGS_MODULE"] = "prod"', None, {"prod"}),
        ('environ.setdefault(ENVIRONMENT_VARIABLE, "prod")', None, {"prod"}),
        ('NAME = "prod"\nos.environ.setdefault("DJANGO_SETTINGS_MODULE", NAME)', None, {"prod"}),
        ('os.environ.update(DJANGO_SETTINGS_MODULE="prod")', "dev", {"prod"}),
        ('os.environ.update({"DJANGO_SETTINGS_MODULE": "prod"})', "dev", {"prod"}),
        ('if X:\n    os.environ["DJANGO_SETTINGS_MODULE"] = "prod"', "dev", {"dev", "prod"}),
        (ON_A_CONDITION, None, {"a", "b"}),
        ('os.environ.setdefault("DJANGO_SETTINGS_MODULE", f"{x}.prod")', None, set()),
        ('os.environ.setdefault("OTHER", "prod")', None, set()),
        ("not python", None, set()),
    ],
)
def test_the_settings_that_a_wsgi_file_chooses(source: str, initial: str | None, chosen: set[str]) -> None:
    assert wsgi_choice.choices(source, initial) == chosen


def test_a_module_is_read_without_importing_anything(tmp_path: Path) -> None:
    (tmp_path / "site_of_ours" / "deep").mkdir(parents=True)
    (tmp_path / "site_of_ours" / "__init__.py").write_text("raise RuntimeError")
    (tmp_path / "site_of_ours" / "deep" / "wsgi.py").write_text("here")
    assert wsgi_choice.source_of("site_of_ours.deep.wsgi", [str(tmp_path)]) == "here"
    assert wsgi_choice.source_of("site_of_ours.missing", [str(tmp_path)]) is None
    assert wsgi_choice.source_of("site_of_ours.deep", [str(tmp_path)]) is None
