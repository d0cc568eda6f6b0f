// The table of results: one row per cell, sorted by any column.

// Name, heading, value to sort by, kind. Axes along which nothing differs are said above the table, not in it.
const COLUMNS = [
  ["method", "Method", (r) => r.cell.method],
  ["task", "Task", (r) => r.cell.task],
  ["model", "Model", (r) => r.cell.model],
  ["seed", "Seed", (r) => (r.cell.seed === "-" ? -1 : Number(r.cell.seed))],
  ["before", "Start", (r) => r.score.before, "number"],
  ["after", "Found [95 %]", (r) => r.score.after, "number"],
  ["change", "Change", (r) => r.score.change, "number"],
  ["p_value", "p", (r) => r.score.p_value, "number"],
  ["loss", "Loss", (r) => r.score.loss_after, "number"],
  ["search", "Search", (r) => r.cell.tokens[0], "number"],
  ["writer", "Writer", (r) => r.cell.tokens[1], "number"],
  ["evaluation", "Evaluation", (r) => r.cell.tokens[2], "number"],
  ["seconds", "Time", (r) => r.cell.seconds, "number"],
];
const PAGE = 100;
const order = { column: null, down: false };
let rowsWanted = PAGE;

function drawTable() {
  const view = emptied("view-results");
  const rows = sorted(scored());
  view.append(el("h2", {}, "Results"), tableNotes(rows));
  const none = el("p", { class: "note" }, "No finished cell passes the filters.");
  view.append(rows.length ? resultTable(rows) : none, ...unfinished());
}

function tableNotes(rows) {
  const selection = rows.some((r) => r.score.selection);
  const same = ["task", "model", "seed"].filter((axis) => !differs(axis) && DATA.cells.length);
  return el("p", { class: "lead" },
    `${many(rows.length, "cell")} on ${chosen.split} rows`, same.map((axis) => [`, ${axis} `, foreign(DATA.cells[0][axis])]),
    ". Changes in points, losses of the right answer in nats, costs in tokens of search, writer and final evaluation. Bold: best of a task and model. ",
    "\u25b2 better and \u25bc worse than the start prompt by more than noise (p < 0.05, exact paired test); ",
    "\u25b2\u25b2 and \u25bc\u25bc also when all comparisons of the table are taken together (Holm). ",
    selection && "Rows that a prompt was selected on are marked \u2020: they tell nothing about new ones.");
}

const differs = (axis) => DATA.cells.some((cell) => cell[axis] !== DATA.cells[0][axis]);
const shownColumns = () => COLUMNS.filter(([name]) => !["task", "model", "seed"].includes(name) || differs(name));

function sorted(rows) {
  const column = COLUMNS.find(([name]) => name === order.column);
  if (!column) return rows;
  const valueOf = column[2];
  const sign = order.down ? -1 : 1;
  return rows
    .map((row, k) => [valueOf(row), k, row])
    .sort(([a, i], [b, j]) => {
      const missing = (a === null || a === undefined) - (b === null || b === undefined);
      if (missing) return missing;
      return (a < b ? -sign : a > b ? sign : 0) || i - j;
    })
    .map(([, , row]) => row);
}

function resultTable(rows) {
  const head = el("tr", {}, shownColumns().map(([name, title, , kind]) => {
    const current = order.column === name;
    const button = el("button", { type: "button", "data-sort": name, click: () => sortBy(name, kind) }, title,
      el("span", { class: "arrow", "aria-hidden": "true" }, current ? (order.down ? "\u25be" : "\u25b4") : ""));
    return el("th", { scope: "col", class: kind, "aria-sort": current ? (order.down ? "descending" : "ascending") : "none" }, button);
  }));
  const body = el("tbody", {}, rows.slice(0, rowsWanted).map(resultRow));
  const table = el("table", { class: "results" },
    el("caption", { class: "unseen" }, "Results by cell; the buttons of the columns sort it"), el("thead", {}, head), body);
  const left = rows.length - rowsWanted;
  const more = left > 0 && el("p", { class: "more" },
    el("button", { type: "button", click: () => { rowsWanted += 4 * PAGE; drawTable(); } }, `Show ${Math.min(left, 4 * PAGE)} more`),
    " ", el("button", { type: "button", class: "quiet", click: () => { rowsWanted = Infinity; drawTable(); } }, `Show all ${whole(rows.length)}`),
    ` ${whole(rowsWanted)} of ${whole(rows.length)} rows are shown.`);
  return el("div", {}, el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Table of results" }, table), more);
}

function sortBy(name, kind) {
  if (order.column === name) order.down = !order.down;
  else Object.assign(order, { column: name, down: kind === "number" });
  drawTable();
  document.querySelector(`button[data-sort="${name}"]`).focus();
  say(`sorted by ${name}, ${order.down ? "largest first" : "smallest first"}`);
}

function resultRow({ cell, score }) {
  const low = percent(score.interval[0], 0).replace(" %", "");
  const high = percent(score.interval[1], 0).replace(" %", "");
  const loss = isNumber(score.loss_after)
    ? (score.loss_interval ? `${fixed(score.loss_before, 2)} \u2192 ${fixed(score.loss_after, 2)}` : fixed(score.loss_after, 2))
    : "-";
  const lossSure = score.loss_interval && (score.loss_interval[0] > 0 || score.loss_interval[1] < 0);
  const name = el("a", { href: `#cell-${cell.number}`, "aria-label": `${visible(cell.title)}: the life of its prompt` }, visible(cell.method));
  return el("tr", {},
    el("th", { scope: "row" }, el("bdi", {}, name), cell.transfer && [" ", el("span", { class: "tag", title: visible(cell.title) }, "transfer")]),
    ["task", "model", "seed"].filter(differs).map((axis) => el("td", { class: cell[axis].length > 22 ? "label" : "label short" }, foreign(cell[axis]))),
    el("td", { class: "number" }, score.change === null ? "-" : percent(score.before)),
    el("td", { class: `number ${score.best ? "best" : ""}` }, percent(score.after), el("span", { class: "dim" }, ` [${low}, ${high}]`),
      score.selection && el("abbr", { title: "the prompt was selected on these rows" }, "\u2020")),
    el("td", { class: "number" }, points(score.change), verdictMark(score)),
    el("td", { class: "number" }, pValue(score.p_value)),
    el("td", { class: "number" }, loss, lossSure && el("abbr", { title: "more than noise" }, "*")),
    cell.tokens.map((count) => el("td", { class: "number", title: `${whole(count)} tokens` }, short(count))),
    el("td", { class: "number" }, clock(cell.seconds)));
}

function verdictMark(score) {
  const outcome = outcomeOf(score, false);
  if (outcome !== "win" && outcome !== "loss") return null;
  const sign = outcome === "win" ? "\u25b2" : "\u25bc";
  const both = significant(score.holm);
  const words = `significantly ${outcome === "win" ? "better" : "worse"}${both ? ", also adjusted for all comparisons" : ""}`;
  return el("span", { class: `verdict ${outcome}` }, el("span", { "aria-hidden": "true", title: words }, both ? sign + sign : sign), el("span", { class: "unseen" }, words));
}

/** Cells without a result, with the reason where there is one. */
function unfinished() {
  const cells = cellsShown().filter((cell) => cell.state !== "done");
  if (!cells.length) return [];
  const items = cells.slice(0, 200).map((cell) =>
    el("li", {}, el("span", { class: `state ${cell.state}` }, cell.state), " ",
      cell.state === "begun" && hasLife(cell) ? el("a", { href: `#cell-${cell.number}` }, visible(cell.title)) : foreign(cell.title),
      cell.reason && el("span", { class: "reason" }, ": ", foreign(cell.reason))));
  return [el("details", { class: "card", open: cells.length < 12 },
    el("summary", {}, `${many(cells.length, "cell")} without a result`), el("ul", {}, items),
    cells.length > 200 && el("p", {}, `and ${cells.length - 200} more: greater-ray status lists them all`))];
}
