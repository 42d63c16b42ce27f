"""A stand-in for W&B's server: as much of it as a run without artifacts needs, and what it was told."""

from __future__ import annotations

import json
import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@contextmanager
def wandb_server(port=0, runs=None):
    """Its URL; and itself, with its runs by id and the paths that were asked for."""
    server = _Server(("127.0.0.1", port), _Handler)
    server.daemon_threads, server.block_on_close = True, False
    server.runs, server.asked = {} if runs is None else runs, []
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_):
        """Say nothing of a client that hangs up."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self._answer({})

    def do_PUT(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        _, run, name = self.path.rsplit("/", 2)
        self.server.runs[run]["uploaded"][name] = body
        self._answer({})

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.asked.append(self.path)
        stream = re.fullmatch(r"/files/([^/]+)/([^/]+)/([^/]+)/file_stream", self.path)
        if stream:
            self._stream(self.server.runs[stream[3]], json.loads(body))
            return self._answer({"exitcode": None, "limits": {}})
        if self.path != "/graphql":
            return self._answer({})
        told = json.loads(body)
        operation = re.search(r"(?:query|mutation)\s+(\w+)", told["query"])[1]
        work = getattr(self, f"_{operation}", None)
        return self._answer({"data": work(told["variables"]) if work else {}})

    def _RunResumeStatus(self, told):
        found = self.server.runs.get(told["name"])
        model = {"id": "p", "name": told["project"], "entity": {"id": "e", "name": "team"}}
        if found is None:
            return {"model": {**model, "bucket": None}}
        history, summary = found["lines"]["wandb-history.jsonl"], found["lines"]["wandb-summary.json"]
        bucket = {
            "id": "b",
            "name": told["name"],
            "summaryMetrics": summary[-1] if summary else "{}",
            "displayName": found["told"].get("displayName"),
            "logLineCount": 0,
            "historyLineCount": len(history),
            "eventsLineCount": 0,
            "historyTail": json.dumps(history[-1:]),
            "eventsTail": "[]",
            "config": found["told"].get("config") or "{}",
            "tags": found["told"].get("tags") or [],
            "notes": None,
            "wandbConfig": json.dumps({"t": 1}),
        }
        return {"model": {**model, "bucket": bucket}}

    def _UpsertBucket(self, told):
        new = {"told": {}, "lines": {"wandb-history.jsonl": [], "wandb-summary.json": []}, "uploaded": {}, "exit": None}
        found = self.server.runs.setdefault(told["name"], new)
        found["told"].update({name: value for name, value in told.items() if value is not None})
        bucket = {
            "id": "b",
            "name": told["name"],
            "displayName": found["told"].get("displayName"),
            "description": None,
            "config": "{}",
            "sweepName": None,
            "historyLineCount": len(found["lines"]["wandb-history.jsonl"]),
            "project": {"id": "p", "name": told.get("project"), "entity": {"id": "e", "name": "team"}},
        }
        return {"upsertBucket": {"bucket": bucket, "inserted": True}}

    def _CreateRunFiles(self, told):
        base = f"http://{self.headers['Host']}/upload/{told['run']}"
        files = [{"name": name, "uploadUrl": f"{base}/{name}"} for name in told["files"]]
        return {"createRunFiles": {"runID": "b", "uploadHeaders": [], "files": files}}

    def _stream(self, found, told):
        for name, part in (told.get("files") or {}).items():
            lines = found["lines"].setdefault(name, [])
            lines[part["offset"] :] = part["content"]
        if told.get("complete"):
            found["exit"] = told.get("exitcode")

    def _answer(self, data):
        body = json.dumps(data).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Say nothing."""
