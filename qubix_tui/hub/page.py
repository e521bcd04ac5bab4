"""The page at ``/``: what the hub is, and the guide's snippet, running.

One document without anything from elsewhere: its style and script are named by their hashes in the content
security policy, so nothing that could be slipped into it would run. What comes over the socket is shown as
text only.
"""

import base64
import hashlib
from typing import Final

_STYLE: Final = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
pre { font: 13px/1.4 ui-monospace, monospace; padding: .6rem .8rem; border: 1px solid #8886;
  border-radius: .4rem; overflow-x: auto; unicode-bidi: isolate; }
#state { font-weight: 600; }
"""

_SCRIPT: Final = r"""
"use strict";
// In a block: the names of the snippet are left to who pastes it here.
{
  const KEPT = 200;
  const address = (location.protocol === "https:" ? "wss://" : "ws://") + location.host;
  const snippet = document.getElementById("snippet");
  const state = document.getElementById("state");
  const log = document.getElementById("log");
  // Characters that would not show, or would turn the text around them.
  const UNSEEN = /[\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g;

  function show(text) {
    const line = document.createElement("pre");
    line.textContent = text.replace(UNSEEN, (c) => "\\u" + c.charCodeAt(0).toString(16).padStart(4, "0"));
    log.prepend(line);
    while (log.childElementCount > KEPT) log.lastElementChild.remove();
  }

  snippet.textContent = snippet.textContent.replace("ws://localhost:3001", address);
  const ws = new WebSocket(address);
  let pings;
  ws.onopen = () => {
    state.textContent = "Connected to " + address;
    ws.send(JSON.stringify({ type: "subscribe:marketplace", data: { snapshot: true, digest: 1 } }));
    pings = setInterval(() => ws.send(JSON.stringify({ type: "ping" })), 30000);
  };
  ws.onmessage = (e) => show(JSON.stringify(JSON.parse(e.data), null, 2));
  ws.onclose = (e) => {
    clearInterval(pings);
    const why = e.code + (e.reason ? ", " + e.reason : "");
    state.textContent = "Closed (" + why + "); reload to connect again";
  };
}
"""

HTML: Final = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>QUBIX hub</title>
<link rel="icon" href="data:,">
<style>{_STYLE}</style>
</head>
<body>
<h1>QUBIX hub</h1>
<p>A WebSocket at this address tells what happens in the marketplace. To try it, paste this into the console
of your browser (F12):</p>
<pre id="snippet">const ws = new WebSocket('ws://localhost:3001');
ws.onopen = () =&gt; console.log('Connected');
ws.onmessage = (e) =&gt; console.log('Message:', JSON.parse(e.data));
ws.send(JSON.stringify({{ type: 'subscribe:marketplace' }}));  // once it is connected</pre>
<p>To read: <a href="/api/providers">providers</a>, <a href="/api/jobs">jobs</a>,
<a href="/api/websocket/stats">connections</a>. For Prometheus: <code>/metrics</code>.</p>
<h2>Live</h2>
<p id="state">Connecting …</p>
<noscript><p>The live messages need JavaScript.</p></noscript>
<div id="log"></div>
<script>{_SCRIPT}</script>
</body>
</html>
"""


def _hash_source(text: str) -> str:
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"


# The snippet may be pasted with any address: hence ws: and wss:, where 'self' would do for the page itself.
CONTENT_SECURITY_POLICY: Final = "; ".join(
    [
        "default-src 'none'",
        f"style-src {_hash_source(_STYLE)}",
        f"script-src {_hash_source(_SCRIPT)}",
        "connect-src 'self' ws: wss:",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
)
