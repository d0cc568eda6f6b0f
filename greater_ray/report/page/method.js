// One page on the method: does the gradient's order foretell the re-evaluated one, and how often is a step worse?

function drawMethod() {
  const view = emptied("view-method");
  const found = DATA.method.filter((m) => chosen.method === "" || m.method === chosen.method);
  const ranked = found.filter((m) => m.ranked > 0);
  view.append(el("h2", {}, "Does the method do what it says?"));
  view.append(el("p", { class: "lead" }, "From all steps of all cells of a method; filters of task, model and split do not change this page."));
  if (!ranked.length) view.append(el("p", { class: "note" }, "No step has two candidates with both a gradient and a criterion."));
  for (const m of ranked) {
    view.append(el("h3", { class: "method-name" }, foreign(m.method)));
    view.append(el("div", { class: "grid" }, rankHistogram(m), correlations(m)));
  }
  if (found.length) view.append(el("div", { class: "grid" }, worseSteps(found), fluency(found)));
}

function rankHistogram(m) {
  const [left, top, right, bottom] = [52, 34, 540, 270];
  const drawing = canvas(560, 318, "Rank by gradient of the candidate with the lowest criterion");
  const most = Math.max(...m.histogram, ...m.expected) * 1.12;
  const y = linear(0, most, bottom, top);
  const wide = (right - left) / m.histogram.length;
  const x = (rank) => left + (rank - 0.5) * wide;
  const every = Math.ceil(m.histogram.length / 16);
  axes(drawing, [left, top, right, bottom],
    { at: x, ticks: m.histogram.map((_, k) => k + 1).filter((rank) => (rank - 1) % every === 0), text: String, label: "rank by gradient (1: steepest descent) of the best candidate" },
    { at: y, ticks: ticks(0, most, 5), text: (v) => String(Number(v.toPrecision(4))), label: "steps" });
  m.histogram.forEach((count, k) => {
    drawing.append(svg("rect", { x: x(k + 1) - 0.38 * wide, y: y(count), width: 0.76 * wide, height: Math.max(0, bottom - y(count)), class: "bar m0" }, svg("title", {}, `rank ${k + 1}: ${Number(count.toFixed(1))} steps, by chance ${m.expected[k].toFixed(1)}`)));
    drawing.append(svg("path", { d: `M${x(k + 1) - 0.46 * wide},${y(m.expected[k])}h${0.92 * wide}`, class: "expected" }));
  });
  return figure("Is the best candidate the gradient's first?",
    `In ${percent(m.first / m.ranked)} of ${many(m.ranked, "step")} the candidate with the lowest criterion was the gradient's first choice; by chance it would be ${percent(m.chance / m.ranked)}. Dashed: chance. Candidates that are equally good share their step.`,
    drawing, plainTable(["Rank", "Steps", "By chance"], m.histogram.map((count, k) => [k + 1, count.toFixed(1), m.expected[k].toFixed(1)])));
}

function correlations(m) {
  const controls = el("div", { class: "tabs", role: "group", "aria-label": "Along" });
  const place = el("div", {});
  const draw = (key) => {
    for (const button of controls.children) button.setAttribute("aria-pressed", String(button.dataset.key === key));
    place.replaceChildren(correlationChart(m[key], key === "byStep" ? "step" : "position in the prompt"));
  };
  for (const [key, text] of [["byStep", "by step"], ["byPosition", "by position"]]) {
    if (m[key].length) controls.append(el("button", { type: "button", "data-key": key, click: () => draw(key) }, text));
  }
  if (controls.firstChild) draw(controls.firstChild.dataset.key);
  const interval = m.interval ? ` [${fixed(m.interval[0], 2)}, ${fixed(m.interval[1], 2)}] (95 %, cells resampled)` : "";
  return figure("Rank correlation of gradient and criterion",
    m.correlation === null ? "No step has candidates that differ." : `Spearman's, mean over ${many(m.cells, "cell")}: ${fixed(m.correlation, 2)}${interval}. 1: the gradient puts candidates in the right order; 0: it tells nothing.`,
    place, plainTable(["Step", "Mean", "Steps counted"], m.byStep.map(([k, value, n]) => [k, fixed(value, 2), n])), { controls });
}

function correlationChart(values, name) {
  const [left, top, right, bottom] = [52, 34, 540, 250];
  const drawing = canvas(560, 298, `Mean rank correlation by ${name}`);
  const y = linear(-1, 1, bottom, top);
  const last = Math.max(...values.map((v) => v[0]));
  const first = Math.min(...values.map((v) => v[0]));
  const x = linear(first - 0.5, last + 0.5, left, right);
  const most = Math.max(...values.map((v) => v[2]));
  axes(drawing, [left, top, right, bottom], { at: x, ticks: ticks(first, last, 10).filter(Number.isInteger), text: String, label: name },
    { at: y, ticks: [-1, -0.5, 0, 0.5, 1], text: (v) => fixed(v, 1), label: "mean rank correlation; larger marks: more steps" });
  drawing.append(svg("path", { d: `M${left},${y(0)}H${right}`, class: "expected" }));
  for (const [at, value, count] of values) {
    drawing.append(svg("path", { d: `M${x(at)},${y(0)}V${y(value)}`, class: "stem m0" }));
    drawing.append(svg("circle", { cx: x(at), cy: y(value), r: 2.5 + 3.5 * Math.sqrt(count / most), class: "mark m0" }, svg("title", {}, `${name} ${at}: ${fixed(value, 2)}, mean of ${many(count, "step")}`)));
  }
  return drawing;
}

function worseSteps(found) {
  const rows = found.map((m) => [foreign(m.method), whole(m.steps), m.measured ? `${whole(m.worse)} (${percent(m.worse / m.measured, 0)})` : "-", `${whole(m.unchanged)} (${percent(m.unchanged / m.steps, 0)})`]);
  return el("div", { class: "card" }, el("h3", {}, "How often does a step get worse?"),
    el("p", { class: "lead" }, "Steps after which the criterion is higher than before. A method that always takes the best candidate can still get worse: the prompt before the step need not be among them."),
    plainTable(["Method", "Steps", "Worse", "Prompt unchanged"], rows));
}

function fluency(found) {
  const having = found.filter((m) => m.fluency);
  if (!having.length) return null;
  const share = (label, fluent) => percent(fluent / (label + fluent), 0);
  return el("div", { class: "card" }, el("h3", {}, "How much of the loss is fluency?"),
    el("p", { class: "lead" }, "The loss is that of the right answer plus a weighted term for the likelihood of the prompt; means over the rows of the final evaluation, in the weights of the search."),
    plainTable(["Method", "Prompt", "Right answer", "Fluency", "Share of fluency"], having.flatMap((m) => {
      const [a, b, c, d] = m.fluency;
      return [[foreign(m.method), "start", fixed(a), fixed(b), share(a, b)], [foreign(m.method), "found", fixed(c), fixed(d), share(c, d)]];
    })));
}
