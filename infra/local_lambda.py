"""Run a Lambda function on this machine: its unpacked bundle, AWS's runtime client and a local Runtime API."""

import json
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path
from queue import Queue
from typing import Any, NamedTuple
from zipfile import ZipFile

from infra.package import PYTHON, UV, Bundle

NEXT = "/2018-06-01/runtime/invocation/next"
PROVIDED = ("awslambdaric", "boto3")
"""Packages of Lambda's Python image that a bundle relies on."""


class Answer(NamedTuple):
    """The response or the error of a function, as the runtime client posts it."""

    is_error: bool
    body: Any


class Event(NamedTuple):
    """An event, and the seconds that the function is given for it."""

    body: object
    seconds: float


class RuntimeApi(ThreadingHTTPServer):
    """A server that gives events to a function and takes its answers.

    See docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _RuntimeApiHandler)
        self.events: Queue[Event] = Queue()
        self.answers: Queue[Answer] = Queue()


class _RuntimeApiHandler(BaseHTTPRequestHandler):
    server: RuntimeApi

    def do_GET(self) -> None:
        event = self.server.events.get()
        body = json.dumps(event.body).encode()
        self.send_response(200)
        self.send_header("Lambda-Runtime-Aws-Request-Id", "1")
        self.send_header("Lambda-Runtime-Deadline-Ms", str(int((time.time() + event.seconds) * 1000)))
        self.send_header("Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:eu-central-1:1:function:import")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.answers.put(Answer(self.path.endswith("/error"), json.loads(body)))
        self.send_response(202)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_arguments: object) -> None:
        """Log nothing."""


class Function:
    """A running function that waits for events."""

    def __init__(self, process: subprocess.Popen[bytes], api: RuntimeApi) -> None:
        self._process = process
        self._api = api

    def invoke(self, event: object, seconds: float = 300.0) -> Answer:
        """Return the function's answer to an event; `seconds` is the time limit that it is told."""
        self._api.events.put(Event(event, seconds))
        return self._api.answers.get(timeout=120)

    def peak_megabytes(self) -> float:
        """Return the most memory that the function has used so far."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def unpack(bundle: Bundle, folder: Path) -> Path:
    """Unpack a bundle into a folder, and return the folder."""
    with ZipFile(bundle.path) as archive:
        archive.extractall(folder)
    return folder


def install_runtime(python: str, folder: Path) -> Path:
    """Install the packages of Lambda's image into a folder, in the versions of this environment; return the folder."""
    wanted = [f"{name}=={version(name)}" for name in PROVIDED]
    target = ["--python", python, "--python-version", PYTHON, "--target", str(folder), "--compile-bytecode"]
    subprocess.run([str(UV), "pip", "install", "--quiet", *target, *wanted], check=True)
    return folder


def environment(bundle: Path, runtime: Path, settings: Mapping[str, str]) -> dict[str, str]:
    """Return the environment variables of a function, with none of this machine's own."""
    return {
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": f"{bundle}:{runtime}",
        "PYTHONUNBUFFERED": "1",
        "LAMBDA_TASK_ROOT": str(bundle),
        "AWS_LAMBDA_FUNCTION_NAME": "import",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512",
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_REGION": "eu-central-1",
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
        **settings,
    }


@contextmanager
def running(python: str, handler: str, variables: Mapping[str, str], log: Path) -> Iterator[Function]:
    """Start a function in the folder of its log, and stop it at the end of the block."""
    with RuntimeApi() as api, log.open("wb") as lines:
        threading.Thread(target=api.serve_forever, daemon=True).start()
        host, port = api.server_address[:2]
        address = {"AWS_LAMBDA_RUNTIME_API": f"{host!s}:{port}", "_HANDLER": handler}
        command = [python, "-P", "-s", "-m", "awslambdaric", handler]
        process = subprocess.Popen(command, env={**variables, **address}, cwd=log.parent, stdout=lines, stderr=lines)
        try:
            yield Function(process, api)
        finally:
            process.kill()
            process.wait()
            api.shutdown()
