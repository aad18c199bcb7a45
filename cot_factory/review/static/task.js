// The task page: steps edited by keyboard or touch, a lease that is kept alive, a decision that is sent once.
"use strict";

const task = document.getElementById("task");
const list = document.getElementById("steps");
const answer = document.getElementById("answer");
const why = document.getElementById("why");
const said = document.getElementById("said");
const original = { steps: texts(), answer: answer.value };
const past = [];
let current = 0;
let over = false;

function items() {
  return [...list.querySelectorAll(".step")];
}

function texts() {
  return items().map((item) => open(item)?.value ?? item.dataset.text); // what is being typed counts too
}

function state() {
  return { steps: texts(), answer: answer.value, why: why.value };
}

function remember() {
  past.push(state());
}

function changed() {
  const now = state();
  return now.answer !== original.answer || JSON.stringify(now.steps) !== JSON.stringify(original.steps);
}

// Drawing.

function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function newStep(text) {
  const item = element("li", "step edited");
  item.dataset.text = text;
  const head = element("div", "head");
  head.append(element("span", "number"), element("span", "sure", "yours"), element("span", "tools"));
  const shown = element("div", "shown", text);
  shown.tabIndex = 0;
  shown.setAttribute("role", "button");
  item.append(head, shown);
  return item;
}

function equip(item) {
  const tools = item.querySelector(".tools");
  if (tools.childElementCount) return;
  for (const [label, title, act] of [
    ["Edit", "edit (e)", edit],
    ["Split", "split (s)", split],
    ["Merge", "merge with the next (m)", merge],
    ["Delete", "delete (d)", remove],
  ]) {
    const button = element("button", "quiet", label);
    button.title = title;
    button.addEventListener("click", () => {
      select(items().indexOf(item));
      act();
    });
    tools.append(button);
  }
  item.querySelector(".shown").addEventListener("click", () => {
    select(items().indexOf(item));
    edit();
  });
}

function number() {
  items().forEach((item, place) => {
    item.querySelector(".number").textContent = place + 1;
    item.querySelector(".shown").setAttribute("aria-label", `Step ${place + 1}: Enter edits`);
    equip(item);
  });
  document.getElementById("undo").disabled = past.length === 0;
}

function select(place, focus = true) {
  const all = items();
  if (!all.length) return;
  current = Math.max(0, Math.min(place, all.length - 1));
  all.forEach((item, at) => item.classList.toggle("current", at === current));
  if (focus) {
    all[current].querySelector(".shown")?.focus({ preventScroll: true });
    all[current].scrollIntoView({ block: "nearest" });
  }
}

async function redraw(pairs) {
  if (!pairs.length) return;
  const reply = await send("/preview", { texts: pairs.map(([, text]) => text) }).catch(() => null);
  if (!reply?.ok) return;
  const drawn = (await reply.json()).texts; // escaped and checked by the server
  pairs.forEach(([where, text], place) => {
    if (where.dataset.source === text) where.innerHTML = drawn[place];
  });
}

function write(item, text) {
  item.dataset.text = text;
  item.classList.add("edited");
  const shown = item.querySelector(".shown");
  shown.textContent = text;
  shown.dataset.source = text;
  redraw([[shown, text]]);
}

function restore(saved) {
  const old = items();
  const kept = new Map(old.map((item) => [item.dataset.text, item]));
  const next = saved.steps.map((text) => {
    const item = kept.get(text) ?? newStep(text);
    kept.delete(text);
    return item;
  });
  list.replaceChildren(...next);
  answer.value = saved.answer;
  why.value = saved.why;
  number();
  select(current, false);
  redraw(next.filter((item) => item.classList.contains("edited")).map((item) => {
    const shown = item.querySelector(".shown");
    shown.dataset.source = item.dataset.text;
    return [shown, item.dataset.text];
  }));
}

// Editing.

function open(item) {
  return item.querySelector("textarea");
}

function edit() {
  const item = items()[current];
  if (!item || open(item)) return;
  const before = state();
  const area = element("textarea");
  area.value = item.dataset.text;
  area.setAttribute("aria-label", `Step ${current + 1}`);
  const preview = element("div", "preview");
  preview.setAttribute("aria-live", "polite");
  const shown = item.querySelector(".shown");
  shown.hidden = true;
  shown.after(area, preview);
  let waiting = 0;
  area.addEventListener("input", () => {
    grow(area);
    clearTimeout(waiting);
    waiting = setTimeout(() => {
      preview.dataset.source = area.value;
      redraw([[preview, area.value]]);
    }, 150);
  });
  const close = () => {
    if (!area.isConnected || area.dataset.closed) return;
    area.dataset.closed = "yes";
    clearTimeout(waiting);
    if (area.value !== item.dataset.text) {
      past.push(before);
      write(item, area.value);
    }
    area.remove();
    preview.remove();
    shown.hidden = false;
    number();
  };
  area.addEventListener("blur", close);
  area.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      close();
      select(current);
      event.preventDefault();
    } else if (event.key === "Enter" && event.ctrlKey) {
      const at = area.selectionStart;
      close();
      splitAt(item, at);
      event.preventDefault();
    }
    event.stopPropagation();
  });
  grow(area);
  area.focus();
}

function grow(area) {
  area.rows = Math.max(2, area.value.split("\n").length + Math.floor(area.value.length / 70));
}

function split() {
  const item = items()[current];
  if (!item) return;
  const found = item.dataset.text.match(/[.!?。！？](?=\s|$)\s*/);
  splitAt(item, found ? found.index + found[0].length : Math.ceil(item.dataset.text.length / 2));
}

function splitAt(item, at) {
  const text = item.dataset.text;
  const [left, right] = [text.slice(0, at).trimEnd(), text.slice(at).trimStart()];
  if (!left || !right) return;
  remember();
  write(item, left);
  const made = newStep(right);
  item.after(made);
  write(made, right);
  number();
  select(items().indexOf(made));
}

function merge() {
  const [item, next] = [items()[current], items()[current + 1]];
  if (!next) return;
  remember();
  write(item, `${item.dataset.text} ${next.dataset.text}`);
  next.remove();
  number();
  select(current);
}

function add() {
  remember();
  const made = newStep("");
  const item = items()[current];
  if (item) item.after(made);
  else list.append(made);
  number();
  select(items().indexOf(made));
  edit();
}

function remove() {
  const item = items()[current];
  if (!item) return;
  remember();
  item.remove();
  number();
  select(current);
}

function undo() {
  const before = past.pop();
  if (before) restore(before);
}

// The lease and the decision.

function stale(message) {
  over = true;
  document.querySelector("#stale p").textContent = message;
  document.getElementById("stale").hidden = false;
  document.querySelectorAll(".actions [data-action]").forEach((button) => (button.disabled = true));
  document.getElementById("stale").scrollIntoView();
}

function address(what) {
  return `/task/${encodeURIComponent(task.dataset.task)}/${what}`;
}

async function beat() {
  if (over) return;
  const work = changed() || why.value ? state() : { steps: [], answer: "", why: "" };
  const reply = await send(address("beat"), { token: Number(task.dataset.token), ...work }).catch(() => null);
  if (reply?.status === 409) stale((await reply.json()).error);
  said.textContent = reply?.ok || reply?.status === 409 ? "" : "The server does not answer; what you write stays in this page.";
}

async function decide(action) {
  if (over) return;
  document.activeElement?.blur();
  if ((action === "reject" || action === "escalate") && !why.value.trim()) {
    said.textContent = `To ${action}, say why in a few words, then press Enter.`;
    why.dataset.then = action;
    why.focus();
    return;
  }
  if (action === "accept" && changed()) {
    said.textContent = "You changed the chain: save the fix (f), or undo (u) and accept.";
    return;
  }
  if (action === "fix" && !changed()) {
    said.textContent = "Nothing is changed: accept (a) takes the chain as it is.";
    return;
  }
  over = true;
  const reply = await send(address("decide"), { token: Number(task.dataset.token), action, ...state() }).catch(() => null);
  over = false;
  if (reply?.ok) {
    over = true;
    location.reload();
  } else if (reply?.status === 409) {
    stale((await reply.json()).error);
  } else if (reply) {
    const told = await reply.json().catch(() => ({}));
    said.textContent = told.error ?? told.detail ?? `The server refused it (${reply.status}).`;
  } else {
    said.textContent = "The server does not answer. Nothing is lost: try again when it is back.";
  }
}

const KEYS = {
  j: () => select(current + 1), ArrowDown: () => select(current + 1),
  k: () => select(current - 1), ArrowUp: () => select(current - 1),
  e: edit, Enter: edit, s: split, m: merge, n: add, d: remove, u: undo,
  a: () => decide("accept"), f: () => decide("fix"), r: () => decide("reject"),
  x: () => decide("skip"), "!": () => decide("escalate"),
  "?": () => document.getElementById("help").showModal(),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.getElementById("help").open) return;
  if (event.target.closest("input, textarea, select, video")) {
    if (event.key === "Escape") event.target.blur();
    if (event.key === "Enter" && event.target === why && why.dataset.then) decide(why.dataset.then);
    return;
  }
  if (event.key === "Enter" && event.target.closest("button, a")) return;
  const act = KEYS[event.key];
  if (act) {
    event.preventDefault();
    if (event.repeat && act !== KEYS.j && act !== KEYS.k && !event.key.startsWith("Arrow")) return; // a key held down would decide on the next task
    act();
  }
});

document.querySelectorAll("[data-action]").forEach((button) =>
  button.addEventListener("click", () => decide(button.dataset.action)),
);
document.getElementById("undo").addEventListener("click", undo);
document.getElementById("help-button").addEventListener("click", KEYS["?"]);
document.getElementById("copy").addEventListener("click", () =>
  navigator.clipboard.writeText([...texts(), `Answer: ${answer.value}`].join("\n")),
);
document.querySelectorAll(".span").forEach((button) =>
  button.addEventListener("click", () => {
    const film = button.closest("figure").querySelector("video");
    const end = Number(button.dataset.end);
    film.currentTime = Number(button.dataset.start);
    film.play();
    film.ontimeupdate = () => {
      if (film.currentTime >= end) {
        film.pause();
        film.ontimeupdate = null;
      }
    };
  }),
);

number();
if (task.dataset.draft) {
  const draft = JSON.parse(task.dataset.draft);
  if (draft.steps.length || draft.why) {
    remember();
    restore({ steps: draft.steps.length ? draft.steps : texts(), answer: draft.answer || answer.value, why: draft.why });
    said.textContent = "What you wrote here before is back (u undoes that).";
  }
}
select(0);
setInterval(beat, (Number(task.dataset.lease) * 1000) / 3);
