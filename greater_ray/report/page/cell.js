// The life of a prompt: the curve of its search, and beside it every step with what it tried and took.

let shownCell = null;

function cellWithLife() {
  return DATA.cells.find((cell) => hasLife(cell) && cell.steps > 0 && !cell.unchanged) || DATA.cells.find(hasLife) || null;
}

async function drawCell(number) {
  const view = emptied("view-cell");
  const cell = number === null ? cellWithLife() : DATA.cells[number];
  if (!cell) {
    view.append(el("p", { class: "note" }, "There is no such cell in this report."));
    return;
  }
  shownCell = cell;
  view.append(cellHead(cell));
  if (!hasLife(cell)) {
    view.append(leftOut(cell, "This cell's timeline", "steps.jsonl"));
    return;
  }
  const life = await opened(`life-${cell.number}`);
  const rows = hasRows(cell) ? await opened(`rows-${cell.number}`) : null;
  if (shownCell !== cell) return;
  view.append(...life.notes.map((note) => el("p", { class: "note" }, foreign(note))));
  view.append(prompts(cell, life));
  if (life.steps.length) view.append(story(cell, life));
  else view.append(el("p", { class: "note" }, cell.transfer ? "A transfer has no search of its own: the prompt is measured as it is." : "This method takes no steps."));
  if (rows) view.append(...changedRows(cell, rows));
  else if (cell.state === "done") view.append(leftOut(cell, "The rows won and lost", "record.json"));
}

function leftOut(cell, what, file) {
  return el("p", { class: "note" }, `${what} is not in this file, ${cell.path ? "which holds at most " : "there is nothing yet"}`,
    cell.path && [`${short(DATA.limit)} characters of details. The record: `, el("code", {}, foreign(pathOf(cell, file)))]);
}

function cellHead(cell) {
  const near = (step) => {
    for (let k = cell.number + step; k >= 0 && k < DATA.cells.length; k += step) if (DATA.kept[k]) return k;
    return null;
  };
  const [before, after] = [near(-1), near(1)];
  const source = cell.source !== null && cell.source !== undefined ? DATA.cells[cell.source] : null;
  const facts = [
    ["ended by", cell.stop], ["search", cell.tokens && `${short(cell.tokens[0])} tokens`],
    ["writer", cell.tokens && cell.tokens[1] > 0 && `${short(cell.tokens[1])} tokens`],
    ["evaluation", cell.tokens && `${short(cell.tokens[2])} tokens`], ["time", cell.seconds !== undefined && clock(cell.seconds)],
    ["record", cell.path && pathOf(cell, cell.state === "done" ? "record.json" : "steps.jsonl")],
  ].filter(([, value]) => value);
  return el("header", { class: "cell-head" },
    el("div", { class: "between" },
      el("h2", {}, foreign(cell.title), cell.state !== "done" && el("span", { class: `state ${cell.state}` }, cell.state)),
      el("div", { class: "steps-nav" },
        before !== null && el("a", { class: "button", href: `#cell-${before}`, rel: "prev" }, "\u2190 previous"),
        after !== null && el("a", { class: "button", href: `#cell-${after}`, rel: "next" }, "next \u2192"))),
    source && el("p", {}, "Measures the prompt that ", el("a", { href: `#cell-${source.number}` }, visible(source.title)), " found."),
    cell.reason && el("p", { class: "note" }, foreign(cell.reason)),
    el("dl", { class: "facts" }, facts.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, foreign(value))))),
    cell.splits.length > 0 && scoresOf(cell));
}

function scoresOf(cell) {
  const rows = cell.splits.map((score) => [
    `${score.split}${score.selection ? " \u2020" : ""}`, whole(score.rows), percent(score.before),
    `${percent(score.after)} [${percent(score.interval[0], 0)}, ${percent(score.interval[1], 0)}]`,
    el("span", {}, points(score.change), verdictMark(score)), pValue(score.p_value),
    isNumber(score.loss_after) ? `${fixed(score.loss_before, 2)} \u2192 ${fixed(score.loss_after, 2)}` : "-",
  ]);
  return el("div", {}, plainTable(["Rows", "Number", "Start", "Found", "Change, points", "p", "Loss, nats"], rows),
    cell.splits.some((score) => score.selection) && el("p", { class: "dim" }, "\u2020 The prompt was selected on these rows: they tell nothing about new ones."));
}

function prompts(cell, life) {
  return el("div", { class: "grid" },
    cell.start !== undefined && el("div", { class: "card" }, el("h3", {}, "Start prompt"), foreign(cell.start, { class: "foreign block" })),
    cell.prompt !== undefined && el("div", { class: "card found" }, el("h3", {}, cell.unchanged ? "Found prompt: the start prompt stays" : "Found prompt"),
      foreign(cell.prompt, { class: "foreign block" }),
      life.tokenized === false && el("p", { class: "note" }, "As text, this prompt is tokenized differently from the one that was optimized."),
      demonstrations(life.demonstrations),
      life.rendered && el("details", {}, el("summary", {}, "As the chat template writes it"), foreign(life.rendered, { class: "foreign block turns" }))));
}

/** Worked examples in front of the questions: question, reasoning if any, answer. */
function demonstrations(found) {
  if (!found || !found.count) return null;
  const nearest = found.nearest > 0 && `, of which every question is shown the ${found.nearest} most like it`;
  return el("details", {}, el("summary", {}, many(found.count, "demonstration"), nearest),
    found.shown.map((texts) => el("div", { class: "demo" }, texts.filter((text) => text !== null).map((text) => foreign(text, { class: "foreign block" })))),
    found.count > found.shown.length && el("p", { class: "dim" }, `${found.count - found.shown.length} more stand in record.json.`));
}

function story(cell, life) {
  const drawing = lifeCurve(cell, life);
  const list = el("ol", { class: "timeline", keydown: walk }, life.steps.map((step, k) => stepItem(step, k, life)));
  const sides = el("div", { class: drawing ? "story" : "" },
    drawing && el("div", { class: "beside" }, figure("Criterion by step",
      "Full mark: the prompt after the step, hollow where it got worse. Small dots: the candidates that were evaluated. Dashed: the best so far. Lower is better.", drawing, null)),
    el("div", {}, list, el("p", { class: "actions" },
      el("button", { type: "button", click: () => openAll(list, "details") }, "Open all steps"), " ",
      el("button", { type: "button", class: "quiet", click: () => closeAll(list) }, "Close all"))));
  return el("section", { "aria-labelledby": "life-heading" }, el("h2", { id: "life-heading" }, "The life of the prompt"),
    el("p", { class: "lead" }, "Each step with what it changed: ", el("ins", {}, "new"), " and ", el("del", {}, "gone"), ". Open a step for its candidates; the arrow keys go from step to step."), sides);
}

/** Open what a selector finds; what is drawn on opening is drawn at once, since paper does not wait. */
function openAll(node, selector) {
  for (const item of node.querySelectorAll(selector)) {
    item.open = true;
    item.dispatchEvent(new Event("toggle"));
  }
}

function closeAll(list) {
  for (const item of list.querySelectorAll("details")) item.open = false;
}

/** Arrow keys go from step to step. */
function walk(event) {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (!step || event.target.tagName !== "SUMMARY") return;
  const all = [...event.currentTarget.querySelectorAll("summary")];
  const next = all[all.indexOf(event.target) + step];
  if (next) {
    event.preventDefault();
    next.focus();
  }
}

function stepItem(step, k, life) {
  const before = k ? life.steps[k - 1].loss : life.startLoss;
  const change = isNumber(before) && isNumber(step.loss) ? step.loss - before : null;
  const tried = step.candidates.length + step.more;
  const rewritten = step.text.length > 0 && step.text.every(([kind]) => kind !== "=");
  const where = step.position === null ? (step.changed ? "rewritten" : "") : `position ${step.position}`;
  const summary = el("summary", {},
    el("span", { class: "step-line" },
      el("strong", {}, `Step ${step.step}`), where && el("span", {}, where), tried > 0 && el("span", {}, many(tried, "candidate")),
      el("span", { class: "push" }, isNumber(step.loss) ? fixed(step.loss) : "no criterion",
        change !== null && el("span", { class: change > 0 ? "worse" : change < 0 ? "better" : "dim" }, ` ${signed(change, 3)}${change > 0 ? " worse" : ""}`)),
      step.kept && [" ", el("span", { class: "tag kept" }, "\u2605 the found prompt")], step.found !== null && [" ", el("span", { class: "tag kept" }, "\u2605 among the candidates")], !step.changed && k + (life.startLoss !== undefined) > 0 && [" ", el("span", { class: "tag" }, "unchanged")]),
    el("bdi", { class: "foreign prompt", dir: "auto" }, step.text.map(([kind, text]) =>
      kind === "=" ? visible(text) : el(kind === "+" ? "ins" : "del", { class: rewritten ? "whole" : null }, visible(text)))));
  const details = el("details", { id: `step-${step.step}`, toggle: () => { if (details.open && details.childElementCount === 1) details.append(candidates(step)); } }, summary);
  return el("li", { class: `${step.kept ? "kept" : ""} ${step.changed ? "changed" : ""}` }, details);
}

function candidates(step) {
  const isGradient = step.candidates.some((c) => isNumber(c[2]));
  const rankOf = (column) => {
    const known = step.candidates.map((c) => c[column]).filter(isNumber).sort((a, b) => a - b);
    return (value) => (isNumber(value) ? known.indexOf(value) + 1 : null);
  };
  const [byGradient, byLoss] = [rankOf(2), rankOf(3)];
  const ranked = (value, rank) => (isNumber(value) ? el("span", {}, fixed(value), el("span", { class: "dim" }, `  #${rank(value)}`)) : "-");
  const columns = ["Taken", step.candidates.some((c) => c[0] !== null) ? "Token" : "Prompt", ...(isGradient ? ["Gradient, rank"] : []), "Criterion, rank", "Status"];
  const rows = step.candidates.map((c, k) => el("tr", { class: k === step.accepted ? "taken" : "" },
    el("td", {}, k === step.accepted && ["\u2714", el("span", { class: "unseen" }, " taken")], k === step.found && el("span", { class: "tag kept" }, "\u2605 the found prompt")),
    el("td", {}, c[0] !== null ? token(c[1]) : foreign(c[1] === "" ? "(nothing)" : c[1], { class: "foreign prompt" })),
    isGradient && el("td", { class: "number" }, ranked(c[2], byGradient)),
    el("td", { class: "number" }, ranked(c[3], byLoss)),
    el("td", {}, foreign(c[4]))));
  const costs = `${whole(step.tokens)} tokens so far${step.writer ? `, ${whole(step.writer)} of the writer` : ""}, ${clock(step.seconds)}`;
  const onRows = isNumber(step.rowLoss) || isNumber(step.rowHits) ? ` On training rows: loss ${fixed(step.rowLoss)}, label likeliest in ${percent(step.rowHits)}.` : "";
  return el("div", { class: "tried" },
    step.notes.map((note) => el("p", { class: "dim" }, foreign(note))),
    rows.length > 0 && el("div", { class: "scroll" }, el("table", { class: "plain" },
      el("thead", {}, el("tr", {}, columns.map((name) => el("th", { scope: "col" }, name)))), el("tbody", {}, rows))),
    step.more > 0 && el("p", { class: "dim" }, `${step.more} more candidates stand in steps.jsonl.`),
    el("p", { class: "dim" }, costs, ".", onRows));
}

function lifeCurve(cell, life) {
  const [left, top, right, bottom] = [60, 30, 520, 270];
  const drawing = canvas(540, 318, "Criterion after each step, with its candidates", true);
  const main = [[0, life.startLoss], ...life.steps.map((s) => [s.step, s.loss])].filter((p) => isNumber(p[1]));
  const best = life.steps.map((s) => [s.step, s.best]).filter((p) => isNumber(p[1]));
  const tried = life.steps.flatMap((s) => s.candidates.map((c) => [s.step, c[3]])).filter((p) => isNumber(p[1]));
  if (!main.length) return null;
  const steps = Math.max(1, ...life.steps.map((s) => s.step));
  const x = linear(0, steps, left + 12, right - 10);
  const [from, to] = range([...main, ...best, ...tried].map((p) => p[1]));
  const y = linear(from, to, bottom, top);
  axes(drawing, [left, top, right, bottom], { at: x, ticks: ticks(0, steps, 8).filter(Number.isInteger), text: String, label: "step" },
    { at: y, ticks: ticks(from, to, 5), text: (v) => String(Number(v.toPrecision(6))).replace("-", "\u2212"), label: "criterion" });
  for (const [step, loss] of tried) drawing.append(svg("circle", { cx: x(step), cy: y(loss), r: 2.4, class: "tried-dot" }));
  const path = (pairs) => `M${pairs.map((p) => `${x(p[0]).toFixed(1)},${y(p[1]).toFixed(1)}`).join("L")}`;
  if (best.length) drawing.append(svg("path", { d: path(best), class: "best-line" }));
  drawing.append(svg("path", { d: path(main), class: "line m0" }));
  for (const [step, loss] of main) {
    const found = life.steps.find((s) => s.step === step);
    const title = step ? `Step ${step}: criterion ${fixed(loss)}${found.kept ? ", the found prompt" : ""}` : `Start: criterion ${fixed(loss)}`;
    const sign = svg("path", { d: outline(found && found.kept ? "diamond" : "circle", x(step), y(loss), found && found.kept ? 6.5 : 4), class: `mark m0 ${found && found.worse ? "hollow" : ""}` }, svg("title", {}, title));
    drawing.append(step ? svg("a", { href: `#step-${step}`, "aria-label": title, click: (event) => { event.preventDefault(); goToStep(step); } }, sign) : sign);
  }
  return drawing;
}

function goToStep(step) {
  const details = document.getElementById(`step-${step}`);
  details.open = true;
  details.querySelector("summary").focus({ preventScroll: true });
  details.scrollIntoView({ block: "center" });
}
