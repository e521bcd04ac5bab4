// The guide's backend as one would write it with `ws`: one JSON.stringify and one send per client.
// Spoken to as benchmarks/server_hub.py: see there.
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const { WebSocketServer, WebSocket } = createRequire(`${process.argv[2]}/`)("ws");
const sample = JSON.parse(process.argv[3]);
const eventBytes = Number(process.argv[4]);

function gpuMetricsUpdate(providerId, metrics) {
  return { type: "GPU_METRICS_UPDATE", data: { providerId, metrics, timestamp: new Date().toISOString() } };
}

class WebSocketManager {
  clients = new Map();
  subscribers = new Map();
  latest = new Map();
  received = 0;
  nextId = 0;

  constructor(server) {
    server.on("connection", (ws) => {
      const client = { ws, id: `client-${this.nextId++}`, subscriptions: new Set(), lastPing: Date.now() };
      this.clients.set(client.id, client);
      ws.on("message", (raw) => this.handle(client, raw));
      ws.on("close", () => this.leave(client));
      this.send(client, { type: "connected", data: { clientId: client.id, timestamp: new Date().toISOString() } });
    });
  }

  handle(client, raw) {
    let message;
    try {
      message = JSON.parse(raw.toString());
    } catch {
      this.send(client, { type: "error", data: { message: "Invalid message format" } });
      return;
    }
    switch (message.type) {
      case "subscribe:provider":
        this.subscribe(client, `provider:${message.subscriptionId}`);
        this.send(client, { type: "subscribed", data: { subscription: `provider:${message.subscriptionId}` } });
        break;
      case "ping":
        client.lastPing = Date.now();
        this.send(client, { type: "pong", data: { timestamp: new Date().toISOString() } });
        break;
      case "provider:register":
        client.providerId = message.data.workerId;
        this.send(client, { type: "registered", data: { providerId: client.providerId } });
        break;
      case "GPU_METRICS_UPDATE":
        this.received += 1;
        this.latest.set(client.providerId, message.data);
        this.broadcastGPUMetrics(client.providerId, message.data.metrics);
        break;
    }
  }

  subscribe(client, channel) {
    client.subscriptions.add(channel);
    if (!this.subscribers.has(channel)) this.subscribers.set(channel, new Set());
    this.subscribers.get(channel).add(client);
  }

  leave(client) {
    this.clients.delete(client.id);
    for (const channel of client.subscriptions) this.subscribers.get(channel).delete(client);
  }

  send(client, message) {
    if (client.ws.readyState === WebSocket.OPEN) client.ws.send(JSON.stringify(message));
  }

  broadcastGPUMetrics(providerId, metrics) {
    this.broadcast(`provider:${providerId}`, gpuMetricsUpdate(providerId, metrics));
  }

  broadcast(channel, message) {
    for (const client of this.subscribers.get(channel) ?? []) this.send(client, message);
  }
}

const server = new WebSocketServer({ host: "127.0.0.1", port: 0, perMessageDeflate: false, backlog: 1024 });
const manager = new WebSocketManager(server);
server.on("listening", () => console.log(server.address().port));

sample.metrics.gpuNote = "";
const bare = JSON.stringify(gpuMetricsUpdate(sample.providerId, sample.metrics)).length;
sample.metrics.gpuNote = "x".repeat(eventBytes - bare);

function publish(events, every, seconds) {
  const start = performance.now();
  let due = start;
  let published = 0;
  const burst = () => {
    for (let event = 0; event < events; event++) {
      sample.metrics.seq += 1;
      manager.broadcastGPUMetrics(sample.providerId, sample.metrics);
    }
    published += events;
    const now = performance.now();
    due = Math.max(due + every, now);
    if (now - start < seconds * 1000) setTimeout(burst, due - now);
    else console.log(published);
  };
  burst();
}

createInterface({ input: process.stdin })
  .on("line", (line) => {
    const [command, ...words] = line.split(" ");
    if (command === "publish") publish(Number(words[0]), Number(words[1]) * 1000, Number(words[2]));
    else console.log(manager.received);
  })
  .on("close", () => process.exit(0));
