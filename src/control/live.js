// The live page: asks for the status, follows the events, and steers if it was opened with the token. Everything that
// comes from outside is put in as text.
const key = location.hash.slice(1);
const element = (id) => document.getElementById(id);
const make = (tag, text, kind) => {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (kind) made.className = kind;
  return made;
};
const size = (bytes) => {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  while (bytes >= 1000 && unit < units.length - 1) { bytes /= 1000; unit += 1; }
  return `${unit ? bytes.toFixed(1) : bytes} ${units[unit]}`;
};
const age = (milliseconds) => {
  const seconds = Math.max(0, Math.round(milliseconds / 1000));
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  return seconds < 172800 ? `${Math.floor(seconds / 3600)} h` : `${Math.floor(seconds / 86400)} d`;
};
const row = (...cells) => {
  const line = make("tr");
  for (const cell of cells) {
    const box = make("td");
    box.append(cell instanceof Node ? cell : String(cell));
    line.append(box);
  }
  return line;
};
const steer = async (path, body) => {
  const answer = await fetch(path, {
    method: "POST", headers: { Authorization: `Bearer ${key}` }, body: body ? JSON.stringify(body) : undefined,
  });
  element("said").textContent = answer.ok ? "done" : (await answer.json()).error;
  show();
};
const button = (text, path, body) => {
  const made = make("button", text);
  made.addEventListener("click", () => steer(path, body));
  return made;
};

const attempts = new Map();
const drawAttempts = () => {
  const lines = [...attempts.values()].map((attempt) => {
    const bar = make("progress");
    bar.max = attempt.total || 1;
    if (attempt.phase === "send" || attempt.sent > 0) bar.value = attempt.sent;
    const speed = attempt.bytes_per_second ? `${size(attempt.bytes_per_second)}/s` : "";
    const left = attempt.left_ms === null ? "" : age(attempt.left_ms);
    const stop = key ? button("cancel", `/v1/jobs/${attempt.job}/cancel`) : "";
    return row(attempt.worker ?? "-", attempt.file, attempt.host, bar, attempt.phase, speed, left, stop);
  });
  element("attempts").replaceChildren(...lines);
};

const drawHost = (host, now) => {
  const until = host.paused_until && Date.parse(host.paused_until) - now;
  const calm = ["circuit-open", "half-open", "suspect", "quota"].includes(host.state) ? host.state : "ok";
  const rests = until ? `rests for ${age(until)}: ${host.pause_reason ?? ""}` : calm;
  const quota = host.quota ? ` · ${host.quota.left} of ${host.quota.count} left` : "";
  const state = (host.held_since ? "paused by you" : rests) + quota;
  const path = `/v1/hosts/${encodeURIComponent(host.name)}/${host.held_since ? "resume" : "pause"}`;
  const turn = key ? button(host.held_since ? "resume" : "pause", path) : "";
  return row(host.name, `${host.running}/${host.window} of ${host.max_parallel}`, host.queued, state, turn);
};
const drawFolder = ({ path, settling_total: settling, counts, oldest_open_at: oldest }, now) => {
  const open = counts.waiting + counts.started + counts.uploaded;
  return row(path, settling, open, counts.cooling, counts.failed, counts.done, oldest ? age(now - Date.parse(oldest)) : "-");
};
const show = async () => {
  let status;
  try {
    status = await (await fetch("/v1/status")).json();
  } catch {
    element("state").textContent = "no agent, waiting";
    return;
  }
  const now = Date.parse(status.now);
  const { pool } = status;
  element("state").textContent = status.blocked ? `nothing is sent: ${status.blocked}` : status.state;
  element("pool").textContent = `${pool.busy} of ${pool.workers} workers, ${pool.queue_depth} of ${pool.queue} queued`;
  attempts.clear();
  for (const attempt of status.attempts) attempts.set(attempt.job, attempt);
  drawAttempts();
  element("hosts").replaceChildren(...status.hosts.map((host) => drawHost(host, now)));
  element("folders").replaceChildren(...status.folders.map((folder) => drawFolder(folder, now)));
};

const events = new EventSource("/v1/events");
events.addEventListener("progress", (event) => {
  const attempt = JSON.parse(event.data);
  attempts.set(attempt.job, attempt);
  drawAttempts();
});
events.addEventListener("lagged", show);
for (const name of document.body.dataset.events.split(" ")) {
  events.addEventListener(name, (event) => {
    const told = JSON.parse(event.data);
    const line = make("li", undefined, told.level);
    line.append(make("time", new Date(told.at).toLocaleTimeString()), ` ${told.message}`);
    element("events").prepend(line);
    while (element("events").children.length > 30) element("events").lastChild.remove();
    show();
  });
}
events.onerror = show;
if (key) element("steer").append(button("rescan", "/v1/folders/rescan"), button("retry all", "/v1/retry", { all: true }));
show();
setInterval(show, 2000);
