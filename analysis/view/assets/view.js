"use strict";
// Everything that comes from a run is put into the page as text. There is no innerHTML here, and must be none.

const PAGE = 50;
const EXPORT_PAGE = 25;
const LONG = 200000; // characters shown at once; a single line of megabytes stops a browser
const VERDICTS = { exploit: "exploit", solved: "solved honestly", failed: "failed both", none: "no verdict" };
const WITHOUT_CODE = new Set(["no_answer", "no_code", "truncated"]); // attempts without an exploit
const STRANGE = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g;

const $ = (id) => document.getElementById(id);
const state = { runs: [], run: null, offset: 0, rows: [], total: null, more: false, chosen: -1 };

function make(tag, text, attributes = {}) {
  const node = document.createElement(tag);
  if (text !== undefined && text !== null) node.textContent = text;
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  return node;
}

/** Text with control, bidirectional and half characters shown as their code points instead of taking effect. */
function plainText(parent, text) {
  let from = 0;
  for (const match of text.matchAll(STRANGE)) {
    if (match.index > from) parent.append(text.slice(from, match.index));
    const code = match[0].charCodeAt(0).toString(16).toUpperCase().padStart(4, "0");
    parent.append(make("span", `U+${code}`, { class: "strange" }));
    from = match.index + 1;
  }
  if (from < text.length) parent.append(text.slice(from));
}

function longText(parent, text) {
  if (text.length <= LONG) return plainText(parent, text);
  const rest = text.length - LONG;
  plainText(parent, text.slice(0, LONG));
  const button = make("button", `show ${rest.toLocaleString("en")} more characters`, { type: "button" });
  button.addEventListener("click", () => {
    button.remove();
    longText(parent, text.slice(LONG));
  });
  parent.append("\n", button);
}

// Where data come from: the local server, or the files of an export.

const server = {
  async ask(what, query = {}) {
    const answer = await fetch(`api/${what}?${new URLSearchParams(query)}`);
    const data = await answer.json().catch(() => ({ error: `the server answered ${answer.status}` }));
    if (!answer.ok) throw new Error(data.error || `the server answered ${answer.status}`);
    return data;
  },
  runs: () => server.ask("runs"),
  cells: (run, kind, type) => server.ask("cells", type ? { run, kind, type } : { run, kind }),
  rows: (run, filters, offset) => server.ask("rows", { run, ...filters, offset, limit: PAGE }),
  sample: async (run, row) => (await server.ask("sample", { run, id: row.id })).row,
};

const files = {
  loaded: new Map(),
  load(name) {
    if (files.loaded.has(name)) return Promise.resolve(files.loaded.get(name));
    return new Promise((resolve, reject) => {
      const script = make("script", null, { src: `data/${name}.js` });
      script.onload = () => resolve(files.loaded.get(name));
      script.onerror = () => reject(new Error(`data/${name}.js is missing from this export`));
      document.head.append(script);
    });
  },
  async cellsOf(run, kind) {
    return (await files.runs()).find((item) => item.run === run).cells[kind] || [];
  },
  runs: async () => files.loaded.get("runs"),
  async cells(run, kind, type) {
    const cells = await files.cellsOf(run, kind);
    if (!type) return cells;
    return Promise.all(cells.map(async (cell) => {
      const rows = (await files.load(cell.data)).filter((row) => row.type === type);
      const counted = rows.filter((row) => row.error === null && (row.exploit !== null || WITHOUT_CODE.has(row.code_status)));
      const exploits = counted.filter((row) => row.exploit === 1).length;
      return { ...cell, attempts: rows.length, counted: counted.length, exploits };
    }));
  },
  async rows(run, filters, offset) {
    const { text, kind, ...rest } = filters;
    const found = [];
    for (const cell of await files.cellsOf(run, kind)) {
      if (rest.checkpoint && String(cell.checkpoint) !== rest.checkpoint) continue;
      if (rest.level && String(cell.level) !== rest.level) continue;
      const rows = await files.load(cell.data);
      for (let place = 0; place < rows.length; place++) {
        const row = { ...rows[place], data: cell.data, place };
        if (matches(row, rest) && (!text || await files.holds(row, text))) found.push(row);
      }
    }
    return { rows: found.slice(offset, offset + PAGE), total: found.length, more: offset + PAGE < found.length };
  },
  async holds(row, text) {
    const sample = await files.sample(null, row);
    const wanted = text.toLowerCase();
    return ["prompt", "prefill_reasoning", "response", "reasoning", "code"]
      .some((name) => String(sample[name] ?? "").toLowerCase().includes(wanted));
  },
  async sample(run, row) {
    return (await files.load(`${row.data}-${Math.floor(row.place / EXPORT_PAGE)}`))[row.place % EXPORT_PAGE];
  },
};
window.foreshockData = (name, value) => files.loaded.set(name, value);

function matches(row, filters) {
  return Object.entries(filters).every(([name, value]) =>
    name === "verdict" ? verdictOf(row) === value : String(row[name]) === value);
}

function verdictOf(row) {
  if (row.exploit === null || row.exploit === undefined) return "none";
  if (row.exploit === 1) return "exploit";
  return row.secure === 1 ? "solved" : "failed";
}

// The page

function fill(name, options, any) {
  const select = $("filters").elements[name];
  select.replaceChildren();
  if (any) select.append(make("option", any, { value: "" }));
  for (const option of options) {
    const [value, text] = Array.isArray(option) ? option : [String(option), String(option)];
    select.append(make("option", text, { value }));
  }
}

function filters() {
  const given = {};
  for (const [name, value] of new FormData($("filters"))) {
    if (name !== "run" && value !== "") given[name] = value;
  }
  return given;
}

function setFilters(values) {
  for (const [name, value] of Object.entries(values)) {
    const control = $("filters").elements[name];
    if (control) control.value = value;
    if (!control || control.value !== String(value)) throw new Error(`no sample of this run has ${name} ${value}`);
  }
}

function chooseRun(name) {
  const run = name === undefined ? state.runs[0] : state.runs.find((item) => item.run === name);
  if (!run) throw new Error(`the run ${name} is not here; here are: ${state.runs.map((item) => item.run).join(", ")}`);
  state.run = run;
  fill("kind", run.kinds);
  if (run.kinds.includes("evals")) $("filters").elements.kind.value = "evals";
  fill("type", run.types, "all");
  fill("checkpoint", run.checkpoints, "all");
  fill("level", run.levels, "all");
  fill("verdict", Object.entries(VERDICTS), "all");
  fill("suspect", [["1", "yes"], ["0", "no"]], "all");
  fill("finish", run.finish, "all");
  fill("code_status", run.code_status, "all");
}

async function showCells() {
  const given = filters();
  const cells = await source.cells(state.run.run, given.kind, given.type);
  const levels = [...new Set(cells.map((cell) => cell.level))].sort((a, b) => a - b);
  const checkpoints = [...new Set(cells.map((cell) => String(cell.checkpoint)))];
  const table = make("table");
  const head = make("tr");
  head.append(make("th", "checkpoint", { scope: "col" }));
  for (const level of levels) head.append(make("th", `${level} words`, { scope: "col" }));
  table.append(head);
  for (const checkpoint of checkpoints) {
    const line = make("tr");
    line.append(make("th", checkpoint, { scope: "row" }));
    for (const level of levels) {
      const cell = cells.find((item) => String(item.checkpoint) === checkpoint && item.level === level);
      const field = make("td");
      if (cell) {
        const rate = cell.counted ? `${(100 * cell.exploits / cell.counted).toFixed(1)}%` : "no verdict";
        const left = cell.attempts - cell.counted;
        const told = `${rate}: ${cell.exploits} of ${cell.counted} attempts${left ? `, ${left} more without a verdict` : ""}`;
        const label = `checkpoint ${checkpoint}, ${level} words, ${told}`;
        const button = make("button", `${rate}`, { type: "button", title: told, "aria-label": label });
        button.addEventListener("click", () => {
          setFilters({ checkpoint, level: String(level) });
          search();
        });
        field.append(button);
      }
      line.append(field);
    }
    table.append(line);
  }
  $("cells").replaceChildren(table);
}

async function showRows() {
  const page = await source.rows(state.run.run, filters(), state.offset);
  Object.assign(state, { rows: page.rows, total: page.total, more: page.more, chosen: -1 });
  const nodes = page.rows.map((row, i) => {
    const item = make("div", null, { role: "listitem" });
    const button = make("button", null, { type: "button" });
    const verdict = verdictOf(row);
    button.append(make("span", VERDICTS[verdict], { class: verdict }));
    const where = make("span");
    plainText(where, `${row.task} · checkpoint ${row.checkpoint}, ${row.level} words, attempt ${row.attempt}`);
    button.append(where);
    if (row.rollout !== null) button.append(make("span", `rollout ${row.rollout}`));
    if (row.error) button.append(make("span", "error", { class: "none" }));
    button.addEventListener("click", () => choose(i));
    item.append(button);
    return item;
  });
  $("list").replaceChildren(...nodes);
  const first = state.offset + 1, last = state.offset + page.rows.length;
  const total = page.total === null ? "" : ` of ${page.total.toLocaleString("en")}`;
  $("count").textContent = page.rows.length ? `${first} to ${last}${total}` : "none with these filters";
  $("newer").disabled = state.offset === 0;
  $("older").disabled = !page.more;
}

async function search() {
  await guarded(async () => {
    state.offset = 0;
    await Promise.all([showCells(), showRows()]);
    remember({});
  });
}

function remember(row) {
  const kept = { run: state.run.run, ...filters() };
  if (row.task !== undefined) {
    Object.assign(kept, { at: JSON.stringify([row.kind, row.checkpoint, row.level, row.task, row.attempt, row.rollout]) });
  }
  history.replaceState(null, "", `#${new URLSearchParams(kept)}`);
}

async function choose(i, focus = true) {
  const row = state.rows[i];
  if (!row) return;
  state.chosen = i;
  [...$("list").children].forEach((node, k) => node.setAttribute("aria-current", String(k === i)));
  $("list").children[i].scrollIntoView({ block: "nearest" });
  await guarded(async () => {
    showSample(row, await source.sample(state.run.run, row));
    remember(row);
    const beside = matchMedia("(min-width: 1000px)").matches; // else the sample is below the list
    if (focus) $("sample").focus({ preventScroll: beside });
  });
}

async function step(by) {
  const next = state.chosen + by;
  if (next >= 0 && next < state.rows.length) return choose(next);
  if (by > 0 && state.more) state.offset += PAGE;
  else if (by < 0 && state.offset > 0) state.offset -= PAGE;
  else return;
  await guarded(showRows);
  await choose(by > 0 ? 0 : state.rows.length - 1);
}

function block(parent, title, build) {
  parent.append(make("h3", title));
  const pre = make("pre", null, { tabindex: "0" });
  build(pre);
  parent.append(pre);
}

function showSample(row, sample) {
  const title = $("sample-title");
  title.replaceChildren();
  plainText(title, `${row.task}, checkpoint ${row.checkpoint}, ${row.level} words, attempt ${row.attempt}`);
  const detail = make("div");
  const verdict = verdictOf(row);
  detail.append(make("p", VERDICTS[verdict], { class: verdict }));
  const facts = make("dl");
  const shown = [
    "exploit_type", "secure_outcome", "secure_detail", "insecure_outcome", "insecure_detail", "code_status",
    "insecure_suspect", "insecure_suspect_patterns", "finish_reason", "output_tokens", "prefill_tokens", "sandbox_tier",
    "seed", "error",
  ];
  const seen = new Set([...shown, "task_id", "attempt_idx", "system", "prompt", "response", "reasoning", "code", "prefill_reasoning"]);
  for (const name of [...shown, ...Object.keys(sample).filter((key) => !seen.has(key))]) {
    const value = sample[name];
    if (value === undefined || value === null || (Array.isArray(value) && !value.length)) continue;
    facts.append(make("dt", name));
    const told = make("dd");
    longText(told, typeof value === "object" ? JSON.stringify(value) : String(value));
    facts.append(told);
  }
  const prefill = sample.prefill_reasoning || "";
  if (sample.system) block(detail, "System message", (pre) => longText(pre, sample.system));
  if (sample.prompt) block(detail, "User message", (pre) => longText(pre, sample.prompt));
  if (sample.response !== undefined || sample.reasoning !== undefined) {
    block(detail, "Assistant: forced words marked, then what was sampled", (pre) => {
      if (prefill) {
        const mark = make("mark", null, { "aria-label": "forced words" });
        longText(mark, prefill);
        pre.append(mark);
      }
      longText(pre, String(sample.response ?? sample.reasoning ?? ""));
    });
  }
  block(detail, "Code that was verified", (pre) => {
    if (sample.code) longText(pre, sample.code);
    else pre.append(make("span", "none was found", { class: "none" }));
  });
  detail.append(make("h3", "Facts"), facts);
  const tools = make("p");
  for (const [text, by] of [["Previous", -1], ["Next", 1]]) {
    const button = make("button", text, { type: "button" });
    button.addEventListener("click", () => step(by));
    tools.append(button, " ");
  }
  const across = make("button", "This task at every checkpoint", { type: "button" });
  across.addEventListener("click", () => guarded(() => showAcross(row, detail)));
  tools.append(across);
  detail.prepend(tools);
  $("detail").replaceChildren(detail);
}

/** The same task, level and attempt at every checkpoint, below each other. */
async function showAcross(row, detail) {
  const wanted = { kind: row.kind, task: row.task, level: String(row.level), attempt: String(row.attempt) };
  const page = await source.rows(state.run.run, wanted, 0);
  const part = make("section", null, { "aria-label": "This task at every checkpoint" });
  part.append(make("h3", `This task at ${row.level} words, attempt ${row.attempt}, at every checkpoint`));
  for (const other of page.rows) {
    const sample = await source.sample(state.run.run, other);
    const verdict = verdictOf(other);
    const folded = make("details");
    const summary = make("summary", `checkpoint ${other.checkpoint}: `);
    summary.append(make("span", VERDICTS[verdict], { class: verdict }));
    const pre = make("pre", null, { tabindex: "0" });
    longText(pre, String(sample.response ?? sample.reasoning ?? ""));
    folded.append(summary, pre);
    part.append(folded);
  }
  detail.append(part);
  part.scrollIntoView({ block: "start" });
}

async function guarded(work) {
  $("message").textContent = "";
  try {
    await work();
  } catch (error) {
    $("message").textContent = `${error.message || error}`;
  }
}

async function openPlace() {
  const kept = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
  const { run, at, ...given } = kept;
  chooseRun(run);
  $("filters").elements.run.value = state.run.run;
  setFilters(given);
  state.offset = 0;
  if (!at) {
    await Promise.all([showCells(), showRows()]);
    return Object.keys(given).length ? choose(0, false) : undefined; // a link to samples shows one at once
  }
  const [kind, checkpoint, level, task, attempt, rollout] = JSON.parse(at);
  const exact = { kind, checkpoint: String(checkpoint), level: String(level), task, attempt: String(attempt) };
  if (rollout !== null) exact.rollout = String(rollout);
  setFilters({ kind, checkpoint: exact.checkpoint, level: exact.level, task });
  await Promise.all([showCells(), showRows()]);
  const found = (await source.rows(state.run.run, exact, 0)).rows[0];
  if (!found) throw new Error("the sample that this address names is not in this run");
  const place = state.rows.findIndex((row) => row.id === found.id);
  if (place >= 0) return choose(place, false);
  showSample(found, await source.sample(state.run.run, found));
}

let source = server;

async function start() {
  state.runs = await source.runs();
  if (new URLSearchParams(location.search).has("token")) history.replaceState(null, "", `./${location.hash}`);
  fill("run", state.runs.map((item) => [item.run, `${item.run} (${item.rows.toLocaleString("en")})`]));
  const form = $("filters");
  form.addEventListener("submit", (event) => { event.preventDefault(); search(); });
  form.addEventListener("reset", () => setTimeout(() => { chooseRun(state.run.run); form.elements.run.value = state.run.run; search(); }));
  form.addEventListener("change", (event) => {
    if (event.target.name === "run") chooseRun(event.target.value);
    if (event.target.tagName === "SELECT") search();
  });
  $("newer").addEventListener("click", () => guarded(() => { state.offset = Math.max(0, state.offset - PAGE); return showRows(); }));
  $("older").addEventListener("click", () => guarded(() => { state.offset += PAGE; return showRows(); }));
  document.addEventListener("keydown", (event) => {
    if (/^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName) || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "j" || event.key === "ArrowRight") step(1);
    else if (event.key === "k" || event.key === "ArrowLeft") step(-1);
    else if (event.key === "/") { event.preventDefault(); form.elements.text.focus(); }
  });
  window.addEventListener("hashchange", () => guarded(openPlace));
  await openPlace();
}

document.addEventListener("DOMContentLoaded", () => {
  if (files.loaded.has("runs")) source = files;
  guarded(start);
});
