#!/usr/bin/env bash
# keras_hub 0.32.0: `upload_preset` deletes the model card from the folder.
#
# A repository of Hugging Face that is new has no card yet. `upload_preset`
# then writes a card of five lines to `README.md` of the local folder, over the
# one that is there, uploads the folder, and removes `README.md` from it. The
# card that the user wrote is neither uploaded nor left. It is kept if the
# repository has a card before, so that an update does not show it. Here a
# server on this machine stands in for the hub.
#
# Guessed: the card in the folder is uploaded.
#
# Expected output:
#   uploaded: a card of keras_hub
#   in the folder afterwards: no card
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install -q keras==3.15.1 jax==0.10.2 numpy==2.4.6 \
    huggingface_hub==2.4.0 kagglehub==1.0.2 kagglesdk==0.1.28 regex \
    sentencepiece==0.2.3 tokenizers==0.23.3
"$place/venv/bin/pip" install -q --no-deps keras-hub==0.32.0
cat > "$place/run.py" <<'END'
import base64
import http.server
import json
import os
import pathlib
import sys
import threading

uploaded = {}


class Hub(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self):  # Is there a card?
        self.answer({}, 404, "EntryNotFound")

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        if self.path == "/api/repos/create":
            return self.answer({"url": f"{url}/someone/model"})
        if self.path == "/api/validate-yaml":
            return self.answer({"errors": [], "warnings": []})
        if "/preupload/" in self.path:
            files = json.loads(body)["files"]
            for file in files:
                file.update(uploadMode="regular", shouldIgnore=False)
            return self.answer({"files": files})
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                content = base64.b64decode(line["value"]["content"])
                uploaded[line["value"]["path"]] = content
        self.answer({"commitUrl": f"{url}/someone/model/commit/1",
                     "commitOid": "1", "success": True})

    def answer(self, content, status=200, error=None):
        content = json.dumps(content).encode()
        self.send_response(status)
        if error:
            self.send_header("X-Error-Code", error)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *args):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
url = f"http://127.0.0.1:{server.server_port}"
threading.Thread(target=server.serve_forever, daemon=True).start()
os.environ.update(HF_ENDPOINT=url, HF_TOKEN="hf_local", HF_HOME=sys.argv[1])

import keras_hub

folder = pathlib.Path(sys.argv[1], "preset")
backbone = keras_hub.models.ViTBackbone(
    (8, 8, 3), patch_size=4, num_layers=1, num_heads=1, hidden_dim=4, mlp_dim=4
)
backbone.save_to_preset(folder)
(folder / "README.md").write_text("# My model, with its licence and limits\n")
keras_hub.upload_preset("hf://someone/model", str(folder))
mine = b"licence and limits" in uploaded["README.md"]
print("uploaded: a card of", "the user" if mine else "keras_hub")
left = (folder / "README.md").exists()
print("in the folder afterwards:", "a card" if left else "no card")
assert not mine, "the behaviour has changed"
assert not left, "the behaviour has changed"
END
KERAS_BACKEND=jax JAX_PLATFORMS=cpu "$place/venv/bin/python" "$place/run.py" "$place"
