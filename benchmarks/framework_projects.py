"""Applications from the tutorials of their frameworks, for benchmarks/frameworks.py: path -> content."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Application:
    """An application, and texts that its responses (by path) or its log (`prints`) must contain."""

    name: str
    files: Mapping[str, str]
    port: int = 0
    responses: Mapping[str, str] = ()  # type: ignore[assignment]
    prints: str = ""
    by_hand: Mapping[str, str] = ()  # type: ignore[assignment] - variables of the container that the tutorial sets


PAGE = "<!doctype html><title>t</title><link rel=stylesheet href=/static/style.css><h1>Hello, {{ name }}!</h1>\n"
STYLE = "h1 { color: teal }\n"

FLASK = Application(
    "Flask, quickstart", {
        "app.py": """\
from flask import Flask, render_template

app = Flask(__name__)


@app.route("/hello/<name>")
def hello(name=None):
    return render_template("hello.html", name=name)


if __name__ == "__main__":
    app.run(debug=True)
""",
        "templates/hello.html": PAGE, "static/style.css": STYLE, "requirements.txt": "Flask\n",
    },
    8000, {"/hello/you": "Hello, you!", "/static/style.css": "teal"},
)  # fmt: skip
FLASKR = Application(
    "Flask, tutorial", {
        "pyproject.toml": """\
[project]
name = "flaskr"
version = "1.0.0"
description = "The basic blog app built in the Flask tutorial."
dependencies = ["flask"]

[build-system]
requires = ["flit_core<4"]
build-backend = "flit_core.buildapi"
""",
        "flaskr/__init__.py": """\
import os

from flask import Flask, render_template


def create_app(test_config=None):
    app = Flask(__name__, instance_relative_config=True)
    app.config.from_mapping(SECRET_KEY="dev", DATABASE=os.path.join(app.instance_path, "flaskr.sqlite"))
    try:
        os.makedirs(app.instance_path)
    except OSError:
        pass

    @app.route("/hello")
    def hello():
        return "Hello, World!"

    @app.route("/schema")
    def schema():
        with app.open_resource("schema.sql") as f:
            return f.read().decode("utf8")

    @app.route("/")
    def index():
        return render_template("base.html", name="blog")

    return app
""",
        "flaskr/templates/base.html": PAGE, "flaskr/static/style.css": STYLE,
        "flaskr/schema.sql": "CREATE TABLE post (id INTEGER PRIMARY KEY);\n",
    },
    8000, {"/hello": "Hello, World!", "/": "Hello, blog!", "/static/style.css": "teal", "/schema": "CREATE TABLE"},
)  # fmt: skip

SETTINGS = """\
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent.parent
SECRET_KEY = "django-insecure-tutorial"
DEBUG = True
ALLOWED_HOSTS = []
INSTALLED_APPS = ["polls.apps.PollsConfig", "django.contrib.staticfiles"]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.middleware.common.CommonMiddleware",
]
ROOT_URLCONF = "mysite.urls"
TEMPLATES = [{
    "BACKEND": "django.template.backends.django.DjangoTemplates",
    "DIRS": [BASE_DIR / "templates"],
    "APP_DIRS": True,
}]
WSGI_APPLICATION = "mysite.wsgi.application"
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": BASE_DIR / "db.sqlite3"}}
STATIC_URL = "static/"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
"""
GATEWAY = """\
import os

from django.core.{kind} import get_{kind}_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mysite.settings")

application = get_{kind}_application()
"""
DJANGO = Application(
    "Django, tutorial with WhiteNoise", {
        "manage.py": """\
#!/usr/bin/env python
import os
import sys


def main():
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mysite.settings")
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
""",
        "mysite/__init__.py": "", "mysite/settings.py": SETTINGS,
        "mysite/asgi.py": GATEWAY.format(kind="asgi"), "mysite/wsgi.py": GATEWAY.format(kind="wsgi"),
        "mysite/urls.py": """\
from django.urls import include, path

urlpatterns = [path("polls/", include("polls.urls"))]
""",
        "polls/__init__.py": "", "polls/migrations/__init__.py": "",
        "polls/apps.py": """\
from django.apps import AppConfig


class PollsConfig(AppConfig):
    name = "polls"
""",
        "polls/models.py": """\
from django.db import models


class Question(models.Model):
    question_text = models.CharField(max_length=200)
""",
        "polls/urls.py": """\
from django.urls import path

from . import views

urlpatterns = [path("", views.index), path("site/", views.site)]
""",
        "polls/views.py": """\
from django.shortcuts import render


def index(request):
    return render(request, "polls/index.html", {"name": "polls"})


def site(request):
    return render(request, "site.html", {"name": "site"})
""",
        "polls/templates/polls/index.html": "{% load static %}" + PAGE.replace(
            "/static/style.css", "{% static 'polls/style.css' %}"
        ),
        "polls/static/polls/style.css": STYLE, "templates/site.html": PAGE,
        "requirements.txt": "Django>=5.2\nwhitenoise\n",
    },
    8000, {"/polls/": "Hello, polls!", "/polls/site/": "Hello, site!", "/static/polls/style.css": "teal"},
)  # fmt: skip
FASTAPI = Application(
    "FastAPI, templates and static files", {
        "main.py": """\
from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles
from fastapi.templating import Jinja2Templates

app = FastAPI()
app.mount("/static", StaticFiles(directory="static"), name="static")
templates = Jinja2Templates(directory="templates")


@app.get("/items/{name}", response_class=HTMLResponse)
async def read_item(request: Request, name: str):
    return templates.TemplateResponse(request=request, name="item.html", context={"name": name})
""",
        "templates/item.html": PAGE, "static/style.css": STYLE, "requirements.txt": "fastapi[standard]\njinja2\n",
    },
    8000, {"/items/you": "Hello, you!", "/static/style.css": "teal", "/openapi.json": "FastAPI"},
)  # fmt: skip
FASTAPI_PACKAGE = Application(
    "FastAPI, bigger applications", {
        "app/__init__.py": "",
        "app/main.py": """\
from fastapi import Depends, FastAPI

from .dependencies import get_query_token
from .routers import users

app = FastAPI(dependencies=[Depends(get_query_token)])
app.include_router(users.router)


@app.get("/")
async def root():
    return {"message": "Hello Bigger Applications!"}
""",
        "app/dependencies.py": "async def get_query_token(token: str = 'jessica'):\n    return token\n",
        "app/routers/__init__.py": "",
        "app/routers/users.py": """\
from fastapi import APIRouter

router = APIRouter()


@router.get("/users/", tags=["users"])
async def read_users():
    return [{"username": "Rick"}, {"username": "Morty"}]
""",
        "README.md": "# Bigger\n\n```console\n$ fastapi dev app/main.py\n```\n",
        "requirements.txt": "fastapi[standard]>=0.113.0,<1\n",
    },
    8000, {"/": "Hello Bigger Applications!", "/users/": "Morty"},
)  # fmt: skip
STREAMLIT = Application(
    "Streamlit, several pages", {
        "streamlit_app.py": """\
import pandas as pd
import streamlit as st

st.title("Prices")
data = pd.read_csv("prices.csv")
st.line_chart(data)
""",
        "pages/about.py": "import streamlit as st\n\nst.write('About')\n",
        "prices.csv": "day,price\n1,2\n2,3\n", ".streamlit/config.toml": "[theme]\nbase = 'dark'\n",
        "requirements.txt": "streamlit\npandas\n",
    },
    8501, {"/_stcore/health": "ok", "/": "Streamlit"},
)  # fmt: skip
GRADIO = Application(
    "Gradio, quickstart", {
        "app.py": """\
import gradio as gr


def greet(name, intensity):
    return "Hello, " + name + "!" * int(intensity)


demo = gr.Interface(fn=greet, inputs=["text", "slider"], outputs=["text"], api_name="predict")

demo.launch()
""",
        "requirements.txt": "gradio\n",
    },
    7860, {"/": "gradio", "/config": "predict"},
)  # fmt: skip
DASH = Application(
    "Dash, minimal app", {
        "app.py": """\
from dash import Dash, dcc, html

app = Dash(__name__)
app.layout = [html.H1(children="Title of Dash App"), dcc.Graph(id="graph-content")]

if __name__ == "__main__":
    app.run(debug=True)
""",
        "assets/style.css": STYLE, "requirements.txt": "dash\n",
    },
    8000, {"/": "style.css", "/assets/style.css": "teal", "/_dash-layout": "Title of Dash App"},
)  # fmt: skip
CELERY = Application(
    "Celery, first steps", {
        "tasks.py": """\
from celery import Celery

app = Celery("tasks", broker="memory://")


@app.task
def add(x, y):
    return x + y
""",
        "requirements.txt": "celery\n",
    },
    prints="ready.",
)  # fmt: skip
AIOHTTP = Application(
    "aiohttp, server", {
        "server.py": """\
from aiohttp import web


async def handle(request):
    return web.Response(text="Hello, " + request.match_info.get("name", "Anonymous"))


app = web.Application()
app.add_routes([web.get("/", handle), web.get("/{name}", handle)])

if __name__ == "__main__":
    web.run_app(app)
""",
        "helpers.py": "print('nothing to see')\n", "requirements.txt": "aiohttp\n",
    },
    8080, {"/you": "Hello, you"},
)  # fmt: skip
TORNADO = Application(
    "Tornado, hello world", {
        "hello.py": """\
import asyncio

import tornado.web


class MainHandler(tornado.web.RequestHandler):
    def get(self):
        self.render("templates/index.html", name="tornado")


async def main():
    app = tornado.web.Application([(r"/", MainHandler)])
    app.listen(8888)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
""",
        "templates/index.html": PAGE, "requirements.txt": "tornado\n",
    },
    8888, {"/": "Hello, tornado!"},
)  # fmt: skip
LITESTAR = Application(
    "Litestar, minimal example", {
        "app.py": """\
from litestar import Litestar, get


@get("/")
async def index() -> str:
    return "Hello, world!"


app = Litestar([index])
""",
        "requirements.txt": "litestar[standard]\n",
    },
    8000, {"/": "Hello, world!"},
)  # fmt: skip
PROCFILE = Application(
    "gunicorn, named by a Procfile", {
        "Procfile": "web: gunicorn site_two:application\n",
        "aaa.py": "from flask import Flask\n\napp = Flask(__name__)\n",
        "site_two.py": """\
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"Hello from WSGI"]
""",
        "vendor/app.py": "from flask import Flask\n\napp = Flask(__name__)\n",
        "requirements.txt": "gunicorn\nflask\n",
    },
    8000, {"/": "Hello from WSGI"},
)  # fmt: skip
SCRIPT = Application(
    "Click, a program of two that the README names", {
        "README.md": "# Greeter\n\nRun it:\n\n    $ python greet.py --count 2\n",
        "alpha.py": "if __name__ == '__main__':\n    print('wrong')\n",
        "greet.py": """\
import click


@click.command()
@click.option("--count", default=2)
def hello(count):
    for _ in range(count):
        click.echo("Hello!")


if __name__ == "__main__":
    hello()
""",
        "requirements.txt": "click\n",
    },
    prints="Hello!\nHello!",
)  # fmt: skip

APPLICATIONS = (
    FLASK, FLASKR, DJANGO, FASTAPI, FASTAPI_PACKAGE, STREAMLIT, GRADIO, DASH, CELERY, AIOHTTP, TORNADO, LITESTAR,
    PROCFILE, SCRIPT,
)  # fmt: skip
