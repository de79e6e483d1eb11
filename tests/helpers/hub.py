"""A local stand-in for the HTTP interface of Hugging Face's hub."""

import base64
import contextlib
import hashlib
import http.server
import json
import re
import threading
import urllib.parse


class Hub(http.server.ThreadingHTTPServer):
    """Repositories of models in memory, with one revision each.

    It answers what `huggingface_hub` asks to create a repository, to commit
    files, and to read them. `requests` lists the methods and paths asked for;
    a commit needs the token.
    """

    def __init__(self, token):
        super().__init__(("127.0.0.1", 0), _Answers)
        self.token = token
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.repositories, self.requests = {}, []

    def commit_of(self, name):
        content = sorted(self.repositories[name].items())
        return hashlib.sha1(repr(content).encode()).hexdigest()


class _Answers(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self._answer()

    def do_HEAD(self):
        self._answer()

    def do_POST(self):
        self._answer()

    def log_message(self, *args):
        pass

    def _answer(self):
        hub = self.server
        path = urllib.parse.unquote(self.path.partition("?")[0])
        hub.requests.append((self.command, path))
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if found := re.fullmatch(r"/([\w-]+/[\w-]+)/resolve/\w+/(.+)", path):
            return self._file(*found.groups())
        if path == "/api/validate-yaml":  # The header of a card.
            return self._json({"errors": [], "warnings": []})
        if self.command == "POST":
            if self.headers.get("Authorization") != f"Bearer {hub.token}":
                return self._json({"error": "no token"}, 401)
            if path == "/api/repos/create":
                asked = json.loads(body)
                name = f"{asked.get('organization', 'someone')}/{asked['name']}"
                hub.repositories.setdefault(name, {})
                return self._json({"url": f"{hub.url}/{name}"})
        pattern = r"/api/models/([\w-]+/[\w-]+)(?:/(\w+)/main)?"
        found = re.fullmatch(pattern, path)
        if not found or found[1] not in hub.repositories:
            return self._json({"error": path}, 404, "RepoNotFound")
        name, action = found.groups()
        if action == "preupload":
            files = json.loads(body)["files"]
            for file in files:
                file.update(uploadMode="regular", shouldIgnore=False)
            return self._json({"files": files})
        if action == "commit":
            self._commit(hub.repositories[name], body)
        commit = hub.commit_of(name)
        url = f"{hub.url}/{name}/commit/{commit}"
        self._json(
            {
                "id": name,
                "sha": commit,
                "success": True,
                "commitOid": commit,
                "commitUrl": url,
            }
        )

    def _commit(self, repository, body):
        for line in body.splitlines():
            change = json.loads(line)
            if change["key"] == "file":
                file = change["value"]
                content = base64.b64decode(file["content"])
                repository[file["path"]] = content

    def _file(self, name, place):
        content = self.server.repositories.get(name, {}).get(place)
        if content is None:
            return self._json({}, 404, "EntryNotFound")
        self.send_response(200)
        self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", self.server.commit_of(name))
        self._send(content)

    def _json(self, answer, status=200, error=None):
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        if error:
            self.send_header("X-Error-Code", error)
        self._send(json.dumps(answer).encode())

    def _send(self, content):
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


@contextlib.contextmanager
def local_hub(token):
    """Context with a running `Hub`."""
    with Hub(token) as hub:
        thread = threading.Thread(target=hub.serve_forever)
        thread.start()
        try:
            yield hub
        finally:
            hub.shutdown()
            thread.join()
