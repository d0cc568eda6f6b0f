// The overview: figures at a glance, accuracy by task, wins, draws and losses, and transfers.

let adjusted = false;

function drawOverview() {
  const view = emptied("view-overview");
  const rows = scored(false);
  view.append(tiles(rows));
  if (!rows.length) {
    view.append(el("p", { class: "note" }, "No finished cell passes the filters yet."));
    view.append(el("div", { class: "grid" }, curves()));
    return;
  }
  view.append(glance(rows), accuracies(rows));
  view.append(el("div", { class: "grid" }, outcomes(rows), pareto(rows)));
  view.append(el("div", { class: "grid" }, curves()));
  const heat = transfers();
  if (heat) view.append(heat);
}

function tiles(rows) {
  const cells = cellsShown();
  const done = cells.filter((cell) => cell.state === "done");
  const compared = rows.filter((r) => r.score.change !== null);
  const better = compared.filter((r) => outcomeOf(r.score, false) === "win").length;
  const gain = compared.length ? mean(compared.map((r) => r.score.change)) : null;
  const tile = (value, text) => el("li", {}, el("strong", {}, value), el("span", {}, text));
  const states = Object.entries(DATA.states).filter(([state]) => state !== "done").map(([state, n]) => `${n} ${state}`);
  return el("ul", { class: "tiles", "aria-label": "At a glance" },
    tile(`${whole(done.length)} of ${whole(cells.length)}`, `cells finished${states.length && cells.length === DATA.cells.length ? ` (${states.join(", ")})` : ""}`),
    tile(gain === null ? "-" : points(gain), `points on ${chosen.split} rows, mean of ${many(compared.length, "changed prompt")}`),
    tile(`${whole(better)} of ${whole(compared.length)}`, "changed prompts better by more than noise"),
    tile(short(done.reduce((sum, cell) => sum + cell.tokens.reduce((a, b) => a + b, 0), 0)), "tokens of finished cells"),
    tile(clock(done.reduce((sum, cell) => sum + cell.seconds, 0)), "of the models' own calls, hours first"));
}

/** Methods by tasks: means over seeds and models, best of a column in bold. */
function glance(rows) {
  const tasks = [...new Set(rows.map((r) => r.cell.task))].sort();
  const methods = DATA.methods.filter((method) => rows.some((r) => r.cell.method === method));
  const cells = grouped(rows, (r) => `${r.cell.method}\n${r.cell.task}`);
  const value = (method, task) => {
    const found = cells.get(`${method}\n${task}`);
    return found ? mean(found.map((r) => r.score.after)) : null;
  };
  const complete = (method) => tasks.every((task) => value(method, task) !== null);
  const overall = (method) => (complete(method) ? mean(tasks.map((task) => value(method, task))) : null);
  // One number alone is no best one.
  const best = (values) => (values.filter(isNumber).length > 1 ? Math.max(...values.filter(isNumber)) : null);
  const tops = tasks.map((task) => best(methods.map((method) => value(method, task))));
  const top = best(methods.map(overall));
  const column = (number, most, sign) => el("td", { class: `number ${isNumber(number) && number === most ? "best" : ""}` },
    isNumber(number) ? (100 * number).toFixed(1) : "-", sign);
  const sure = (method, task) => {
    const found = (cells.get(`${method}\n${task}`) || []).map((r) => outcomeOf(r.score, false));
    const wins = found.filter((o) => o === "win").length;
    const losses = found.filter((o) => o === "loss").length;
    if (!wins && !losses) return el("sup", {});
    const words = `${wins} significantly better and ${losses} worse than the start prompt, of ${found.length}`;
    return el("sup", { class: "verdict", title: words }, wins ? `\u25b2${found.length > 1 ? wins : ""}` : "", losses ? `\u25bc${found.length > 1 ? losses : ""}` : "", el("span", { class: "unseen" }, words));
  };
  const head = el("tr", {}, el("th", { scope: "col" }, "Method"),
    tasks.map((task) => el("th", { scope: "col", class: "number" }, foreign(task.replace(/^bbh\//, "")))),
    tasks.length > 1 && el("th", { scope: "col", class: "number" }, "Mean"));
  const body = methods.map((method) => el("tr", {}, el("th", { scope: "row" }, foreign(method)),
    tasks.map((task, k) => column(value(method, task), tops[k], sure(method, task))),
    tasks.length > 1 && column(overall(method), top)));
  const models = new Set(rows.map((r) => r.cell.model)).size;
  return el("div", { class: "card" }, el("h3", {}, "Accuracy in percent"),
    el("p", { class: "lead" }, `Means over seeds${models > 1 ? " and models" : ""} on ${chosen.split} rows; best of a task in bold; \u25b2 \u25bc significantly better or worse than the start prompt, with the number of cells. A mean stands only where every task has a score.`),
    el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Accuracy by method and task" },
      el("table", { class: "glance" }, el("thead", {}, head), el("tbody", {}, body))));
}

const FEW_SEEDS = 8;
const FEW_PANELS = 8;

/** One panel per task and model; one lane per method, one dot with its interval per seed. */
function accuracies(rows) {
  const panels = [...grouped(rows, (r) => `${r.cell.task}\n${r.cell.model}`).values()];
  panels.sort((a, b) => a[0].cell.task.localeCompare(b[0].cell.task));
  const models = new Set(rows.map((r) => r.cell.model)).size;
  const titleOf = (r) => visible(models > 1 ? `${r.cell.task}, ${r.cell.model}` : r.cell.task);
  const table = () => plainTable(["Method", "Task", "Model", "Seed", "Start", "Found", "Low", "High"],
    rows.slice(0, 400).map(({ cell, score }) => [foreign(cell.method), foreign(cell.task), foreign(cell.model), visible(cell.seed),
      percent(score.before), percent(score.after), percent(score.interval[0]), percent(score.interval[1])]));
  return figure("Accuracy by task",
    `A mark per seed with its 95 % interval (rows); the upright stroke is the start prompt. With more than ${FEW_SEEDS} seeds: mean, middle half and range over seeds.`,
    el("div", {}, panelsOf(panels.slice(0, FEW_PANELS), titleOf), furtherPanels(panels.slice(FEW_PANELS), titleOf)),
    table(), { below: legend(DATA.methods.filter((m) => rows.some((r) => r.cell.method === m))), class: "wide" });
}

function panelsOf(panels, titleOf) {
  return el("div", { class: "panels" }, panels.map((own) =>
    el("div", { class: "panel" }, el("h4", {}, titleOf(own[0])), lanes(own, titleOf(own[0])))));
}

/** Drawn when they are opened: with many tasks they are most of the page. */
function furtherPanels(panels, titleOf) {
  if (!panels.length) return null;
  const details = el("details", { class: "further", toggle: () => {
    if (details.open && details.childElementCount === 1) details.append(panelsOf(panels, titleOf));
  } }, el("summary", {}, `${many(panels.length, "further task", "further tasks and models")}; a filter above brings one to the front`));
  return details;
}

function lanes(rows, title) {
  const groups = [...grouped(rows, (r) => r.cell.method)].sort(([a], [b]) => DATA.methods.indexOf(a) - DATA.methods.indexOf(b));
  const heights = groups.map(([, own]) => (own.length > FEW_SEEDS ? 24 : Math.max(20, 11 * own.length + 8)));
  const [left, top, width] = [132, 8, 520];
  const bottom = top + heights.reduce((a, b) => a + b, 0);
  const drawing = canvas(width, bottom + 26, `Accuracy on ${title}`, true);
  const at = linear(0, 1, left, width - 24);
  for (const value of [0, 0.25, 0.5, 0.75, 1]) {
    drawing.append(svg("path", { d: `M${at(value)},${top}V${bottom}`, class: "grid" }));
    drawing.append(svg("text", { x: at(value), y: bottom + 17, class: "tick middle" }, `${100 * value} %`));
  }
  let y = top;
  groups.forEach(([method, own], k) => {
    const middle = y + heights[k] / 2;
    if (k) drawing.append(svg("path", { d: `M${left},${y}H${width - 24}`, class: "rule" }));
    drawing.append(svg("text", { x: left - 8, y: middle + 4, class: "lane end" }, clipped(method, 19), svg("title", {}, visible(method))));
    const starts = [...new Set(own.filter((r) => r.score.change !== null).map((r) => r.score.before))];
    for (const start of starts.slice(0, 4)) drawing.append(svg("path", { d: `M${at(start)},${y + 3}V${y + heights[k] - 3}`, class: "start-mark" }, svg("title", {}, `start prompt ${percent(start)}`)));
    if (own.length > FEW_SEEDS) spread(drawing, method, own.map((r) => r.score.after), at, middle);
    else own.forEach((r, j) => dot(drawing, r, at, middle + (j - (own.length - 1) / 2) * 11));
    y += heights[k];
  });
  return drawing;
}

const clipped = (text, length) => {
  const seen = visible(text);
  return seen.length > length ? `${seen.slice(0, length - 1)}\u2026` : seen;
};

function dot(drawing, { cell, score }, at, y) {
  const style = styleOf(cell.method);
  const title = `${visible(cell.title)}: ${percent(score.after)} [${percent(score.interval[0])}, ${percent(score.interval[1])}], start ${percent(score.before)}`;
  drawing.append(svg("path", { d: `M${at(score.interval[0])},${y}H${at(score.interval[1])}m0,-3v6M${at(score.interval[0])},${y - 3}v6`, class: `whisker ${style.colour}` }));
  drawing.append(svg("a", { href: `#cell-${cell.number}`, "aria-label": title }, mark(cell.method, at(score.after), y, 4.5, { title })));
}

function spread(drawing, method, values, at, y) {
  const ordered = [...values].sort((a, b) => a - b);
  const quantile = (q) => ordered[Math.round(q * (ordered.length - 1))];
  const style = styleOf(method);
  drawing.append(svg("path", { d: `M${at(quantile(0))},${y}H${at(quantile(1))}`, class: `whisker ${style.colour}` }));
  drawing.append(svg("path", { d: `M${at(quantile(0.25))},${y}H${at(quantile(0.75))}`, class: `half ${style.colour}` }));
  drawing.append(mark(method, at(mean(values)), y, 5, { title: `${values.length} seeds: mean ${percent(mean(values))}, from ${percent(quantile(0))} to ${percent(quantile(1))}` }));
}

const OUTCOMES = [["win", "better"], ["draw", "within noise"], ["kept", "start prompt kept"], ["loss", "worse"]];

/** Found prompt against start prompt, cells counted by method. */
function outcomes(rows) {
  const groups = [...grouped(rows, (r) => r.cell.method)].map(([method, own]) => {
    const counts = Object.fromEntries(OUTCOMES.map(([kind]) => [kind, 0]));
    for (const r of own) counts[outcomeOf(r.score, adjusted)] += 1;
    return [method, counts, own.length];
  }).filter(([, counts, all]) => counts.kept < all || rows.length === all);
  const most = Math.max(1, ...groups.map(([, , all]) => all));
  const [left, width, lane] = [150, 560, 34];
  const bottom = 8 + lane * groups.length;
  const drawing = canvas(width, bottom + 40, "Wins, draws and losses against the start prompt, by method");
  const fills = Object.fromEntries(OUTCOMES.map(([kind]) => [kind, hatch(drawing, kind)]));
  const at = linear(0, most, left, width - 24);
  groups.forEach(([method, counts], k) => {
    const y = 8 + lane * k;
    drawing.append(svg("text", { x: left - 8, y: y + 19, class: "lane end" }, clipped(method, 21), svg("title", {}, visible(method))));
    let before = 0;
    for (const [kind, text] of OUTCOMES) {
      if (!counts[kind]) continue;
      const [x, end] = [at(before), at(before + counts[kind])];
      drawing.append(svg("rect", { x, y: y + 4, width: end - x, height: lane - 9, fill: fills[kind], class: "bar" }, svg("title", {}, `${visible(method)}: ${counts[kind]} ${text}`)));
      if (end - x > 16) {
        const label = String(counts[kind]);
        drawing.append(svg("rect", { x: (x + end) / 2 - 4 - 3.6 * label.length, y: y + 7, width: 8 + 7.2 * label.length, height: lane - 15, rx: 3, class: "plate" }));
        drawing.append(svg("text", { x: (x + end) / 2, y: y + 19, class: "count middle" }, label));
      }
      before += counts[kind];
    }
  });
  for (const value of ticks(0, most, 5).filter(Number.isInteger)) {
    drawing.append(svg("text", { x: at(value), y: bottom + 14, class: "tick middle" }, value));
  }
  drawing.append(svg("text", { x: (left + width) / 2, y: bottom + 32, class: "name middle" }, "cells"));
  const keys = el("ul", { class: "legend" }, OUTCOMES.map(([kind, text]) => {
    const sign = svg("svg", { viewBox: "0 0 22 14", width: 22, height: 14, "aria-hidden": "true" });
    sign.append(svg("rect", { width: 22, height: 14, fill: hatch(sign, kind), class: "bar" }));
    return el("li", {}, sign, text);
  }));
  const toggle = el("label", { class: "check" }, el("input", { type: "checkbox", checked: adjusted, change: (event) => { adjusted = event.target.checked; drawOverview(); } }),
    "adjusted for all comparisons (Holm)");
  return figure("Found prompt against start prompt", `Cells on ${chosen.split} rows by an exact paired test, p < 0.05.`, drawing,
    plainTable(["Method", ...OUTCOMES.map(([, text]) => text)], groups.map(([method, counts]) => [foreign(method), ...OUTCOMES.map(([kind]) => counts[kind])])),
    { controls: toggle, below: keys });
}

/** Change in points under other models than the one that a prompt was found on. */
function transfers() {
  const rows = scored(true).filter(({ cell }) => cell.source !== null && cell.source !== undefined);
  if (!rows.length) return null;
  const sourceOf = (r) => DATA.cells[r.cell.source];
  const targets = [...new Set(rows.map((r) => r.cell.model))].sort();
  const lines = [...grouped(rows, (r) => `${r.cell.method}\n${sourceOf(r).model}`)];
  const changeOf = (score) => (score.change === null ? 0 : score.change);
  const own = (group) => {
    const sources = [...new Set(group.map(sourceOf))];
    return sources.flatMap((cell) => cell.splits.filter((s) => s.split === chosen.split)).map(changeOf);
  };
  const columns = ["its own model", ...targets];
  const values = lines.map(([, group]) => [own(group), ...targets.map((model) => group.filter((r) => r.cell.model === model).map((r) => changeOf(r.score)))]);
  const most = Math.max(0.02, ...values.flat().filter((v) => v.length).map((v) => Math.abs(mean(v))));
  const shade = (value) => `heat ${value > 0 ? "up" : value < 0 ? "down" : ""} h${Math.round((Math.abs(value) / most) * 4)}`;
  const head = el("tr", {}, el("th", { scope: "col" }, "Method, found on"), columns.map((name) => el("th", { scope: "col", class: "number" }, foreign(name))));
  const body = lines.map(([key, ], k) => {
    const [method, model] = key.split("\n");
    return el("tr", {}, el("th", { scope: "row" }, foreign(method), el("span", { class: "dim" }, ", ", foreign(model))),
      values[k].map((found) => (found.length
        ? el("td", { class: `number ${shade(mean(found))}`, title: `${points(mean(found))} points, mean of ${many(found.length, "cell")}` }, points(mean(found)))
        : el("td", { class: "number" }, "-"))));
  });
  return el("div", { class: "card wide" }, el("h3", {}, "Transfer"),
    el("p", { class: "lead" }, `Change against the start prompt in points on ${chosen.split} rows, under the model that the prompt was found on and under others; means over tasks and seeds.`),
    el("div", { class: "scroll" }, el("table", { class: "heatmap" }, el("thead", {}, head), el("tbody", {}, body))));
}
