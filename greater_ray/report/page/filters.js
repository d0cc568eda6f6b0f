// What is looked at: one choice of method, task, model, split and phase for all tables and charts.

const AXES = ["method", "task", "model"];
const chosen = { method: "", task: "", model: "", split: "", text: "" };
const listeners = [];

function whenChosen(listener) {
  listeners.push(listener);
}

function buildFilters() {
  const form = emptied("filters");
  for (const axis of AXES) {
    const values = [...new Set(DATA.cells.map((cell) => cell[axis]))].sort();
    const all = `all ${axis}s (${values.length})`;
    form.append(choice(axis, [["", all], ...values.map((value) => [value, value])]));
    if (values.length < 2) form.lastChild.hidden = true;
  }
  const splits = [...new Set(DATA.cells.flatMap((cell) => cell.splits.map((score) => score.split)))];
  splits.sort((a, b) => ["test", "dev", "train"].indexOf(a) - ["test", "dev", "train"].indexOf(b));
  chosen.split = splits[0] || "";
  form.append(choice("split", splits.map((split) => [split, `${split} rows`])));
  const search = el("input", {
    type: "search",
    name: "text",
    placeholder: "words of a prompt or label",
    input: (event) => choose("text", event.target.value),
  });
  form.append(el("label", {}, el("span", {}, "contains"), search));
  form.append(el("button", { type: "button", class: "quiet", click: clearFilters }, "Clear"));
  form.addEventListener("submit", (event) => event.preventDefault());
}

function choice(name, options) {
  const list = options.map(([value, text]) => el("option", { value }, visible(text)));
  const select = el("select", { name, change: (event) => choose(name, event.target.value) }, list);
  return el("label", {}, el("span", {}, name), select);
}

function clearFilters() {
  const form = document.getElementById("filters");
  for (const name of [...AXES, "text"]) {
    form.elements[name].value = "";
    chosen[name] = "";
  }
  changed();
}

function choose(name, value) {
  chosen[name] = value;
  changed();
}

let pending = 0;
function changed() {
  cancelAnimationFrame(pending);
  pending = requestAnimationFrame(() => {
    listeners.forEach((listener) => listener());
    say(`${many(cellsShown().length, "cell")} shown`);
  });
}

/** The cells that the filters let through, of one phase or of both. */
function cellsShown(transfer) {
  const words = chosen.text.toLowerCase();
  return DATA.cells.filter(
    (cell) =>
      (transfer === undefined || cell.transfer === transfer) &&
      AXES.every((axis) => chosen[axis] === "" || cell[axis] === chosen[axis]) &&
      (words === "" || `${cell.title}\n${cell.prompt || ""}`.toLowerCase().includes(words)),
  );
}

/** Those of them that were measured on the chosen split, with their scores there. */
function scored(transfer) {
  return cellsShown(transfer).flatMap((cell) => {
    const score = cell.splits.find((s) => s.split === chosen.split);
    return score ? [{ cell, score }] : [];
  });
}
