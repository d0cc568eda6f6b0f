// What a search costs: accuracy over tokens with the Pareto front, and loss and hits while the tokens are spent.

/** One mark per method: mean cost and mean accuracy over its tasks and models, every pair with the same weight. */
function pareto(rows) {
  const pairs = grouped(rows, (r) => `${r.cell.task}\n${r.cell.model}`);
  const marks = [...grouped(rows, (r) => r.cell.method)].map(([method, own]) => {
    const groups = [...grouped(own, (r) => `${r.cell.task}\n${r.cell.model}`).values()];
    const tokens = mean(groups.map((group) => mean(group.map((r) => searched(r.cell)))));
    return { method, tokens, accuracy: mean(groups.map((group) => mean(group.map((r) => r.score.after)))), pairs: groups.length };
  });
  const complete = marks.filter((m) => m.pairs === pairs.size);
  const front = frontOf(complete);
  const positive = marks.map((m) => m.tokens).filter((t) => t > 0);
  const [left, top, right, bottom] = [52, 34, 540, 290];
  const drawing = canvas(560, 336, "Accuracy over the tokens of the search, by method");
  // Methods that search nothing stand on a place of their own at the left: a logarithm has no zero.
  const zero = marks.some((m) => m.tokens === 0);
  const begin = left + (zero ? 54 : 14);
  const [low, high] = positive.length ? span(positive.map(Math.log10)) : [3, 4];
  const log = linear(low, high, begin, right - 14);
  const x = (tokens) => (tokens > 0 ? log(Math.log10(tokens)) : left + 20);
  const [from, to] = range(marks.map((m) => m.accuracy), 0.12);
  const y = linear(Math.max(0, from), Math.min(1, to), bottom, top);
  // Powers of ten, and what is between them where few of them are in sight.
  const parts = high - low > 2 ? [1] : [1, 2, 5];
  const decades = [...Array(Math.ceil(high) - Math.floor(low) + 1).keys()].map((k) => 10 ** (Math.floor(low) + k));
  const inSight = decades.flatMap((p) => parts.map((k) => k * p)).filter((p) => positive.length && Math.log10(p) >= low && Math.log10(p) <= high);
  axes(drawing, [left, top, right, bottom],
    { at: x, ticks: [...(zero ? [0] : []), ...inSight], text: short, label: "tokens of search and writer per cell" },
    { at: y, ticks: ticks(Math.max(0, from), Math.min(1, to), 5), text: (v) => `${Number((100 * v).toFixed(1))} %`, label: `accuracy on ${chosen.split} rows` });
  if (front.length > 1) {
    const steps = front.map((m, k) => (k ? `H${x(m.tokens)}V${y(m.accuracy)}` : `M${x(m.tokens)},${y(m.accuracy)}`)).join("");
    drawing.append(svg("path", { d: steps, class: "front" }));
  }
  const placed = [];
  for (const m of marks) {
    const on = front.includes(m);
    const title = `${visible(m.method)}: ${percent(m.accuracy)} at ${short(m.tokens)} tokens${on ? ", on the Pareto front" : ""}${m.pairs < pairs.size ? `, on ${m.pairs} of ${pairs.size} tasks and models` : ""}`;
    if (on) drawing.append(svg("circle", { cx: x(m.tokens), cy: y(m.accuracy), r: 9, class: "ring" }));
    drawing.append(mark(m.method, x(m.tokens), y(m.accuracy), 5, { title, class: m.pairs < pairs.size ? "hollow" : "" }));
    label(drawing, placed, x(m.tokens), y(m.accuracy), clipped(m.method, 18), right);
  }
  return figure("Cost against accuracy",
    `Means over ${many(pairs.size, "task and model", "tasks and models")}. Ringed and joined: the Pareto front, no method is better for less.${complete.length < marks.length ? " Hollow: not measured on all of them, so left out of it." : ""}`,
    drawing, plainTable(["Method", "Tokens per cell", "Accuracy", "Pareto front"], marks.map((m) => [foreign(m.method), whole(m.tokens), percent(m.accuracy), front.includes(m) ? "yes" : "no"])));
}

/** The range of logarithms, at least half a power of ten wide. */
function span(values) {
  const [low, high] = range(values, 0.06);
  const more = Math.max(0, 0.5 - (high - low)) / 2;
  return [low - more, high + more];
}

/** Write a name beside its mark where there is room; the tooltip and the table have it in any case. */
function label(drawing, placed, x, y, text, right) {
  const width = 6.4 * text.length;
  for (const [dx, dy, anchor] of [[13, 4, "start"], [13, -9, "start"], [13, 18, "start"], [-13, 4, "end"], [-13, -9, "end"], [-13, 18, "end"]]) {
    const begin = anchor === "start" ? x + dx : x + dx - width;
    const box = [begin, y + dy - 10, begin + width, y + dy + 3];
    if (box[0] < 54 || box[2] > right + 16) continue;
    if (placed.some((p) => p[0] < box[2] && box[0] < p[2] && p[1] < box[3] && box[1] < p[3])) continue;
    placed.push(box);
    drawing.append(svg("text", { x: x + dx, y: y + dy, class: `lane ${anchor}` }, text));
    return;
  }
}

/** Methods that no other one beats for as little. */
function frontOf(marks) {
  let best = -1;
  return [...marks].sort((a, b) => a.tokens - b.tokens || b.accuracy - a.accuracy).filter((m) => {
    const better = m.accuracy > best;
    best = Math.max(best, m.accuracy);
    return better;
  });
}

const FEW_CURVES = 24;
const MEASURES = [
  [2, "Loss over tokens", "loss of the right answer, nats", "Mean loss of the right answer on training rows, of the prompt after each step."],
  [3, "Accuracy over tokens", "share of training rows", "Share of training rows whose right answer is the likeliest text, of the prompt after each step."],
];
const CRITERION = [1, "Criterion over tokens", "the method's own criterion", "Each method's own criterion, lower is better. Training losses are not in the records, and criteria of different methods cannot be compared."];

/** Two charts with the same axis of tokens; where records hold no losses of rows, the method's own criterion. */
function curves() {
  const cells = cellsShown(false).filter((cell) => cell.curve && cell.curve.length > 1);
  const having = (index) => cells.filter((cell) => cell.curve.filter((p) => isNumber(p[index])).length > 1);
  const measures = having(2).length || having(3).length ? MEASURES : [CRITERION];
  return measures.filter(([index]) => having(index).length).map((measure) => curve(having(measure[0]), ...measure));
}

function curve(cells, index, title, name, lead) {
  const tasks = new Set(cells.map((cell) => `${cell.task}\n${cell.model}`)).size;
  const relative = tasks > 1;
  let lines = cells.map((cell) => {
    const found = cell.curve.filter((p) => isNumber(p[index]));
    const first = relative ? found[0][index] : 0;
    return { method: cell.method, cell, points: found.map((p) => [p[0], p[index] - first]) };
  });
  const averaged = lines.length > FEW_CURVES;
  if (averaged) lines = [...grouped(lines, (line) => line.method)].map(([method, own]) => ({ method, points: averageOf(own.map((line) => line.points)), count: own.length }));
  const [left, top, right, bottom] = [60, 34, 540, 290];
  const drawing = canvas(560, 336, `${title}, by method`, true);
  const most = Math.max(...lines.flatMap((line) => line.points.map((p) => p[0])), 1);
  const x = linear(0, most, left + 8, right - 8);
  const [from, to] = range(lines.flatMap((line) => line.points.map((p) => p[1])));
  const y = linear(from, to, bottom, top);
  const inPercent = index === 3;
  axes(drawing, [left, top, right, bottom], { at: x, ticks: ticks(0, most, 5), text: short, label: "tokens of search and writer" },
    { at: y, ticks: ticks(from, to, 5), text: (v) => (inPercent ? `${Number((100 * v).toFixed(1))} %` : String(Number(v.toPrecision(6))).replace("-", "\u2212")), label: relative ? `${name}, difference to the start` : name });
  for (const line of lines) {
    const style = styleOf(line.method);
    const words = line.cell ? visible(line.cell.title) : `${visible(line.method)}, mean of ${line.count} cells`;
    const path = svg("path", { d: `M${line.points.map((p) => `${x(p[0]).toFixed(1)},${y(p[1]).toFixed(1)}`).join("L")}`, class: `line ${style.colour}`, "stroke-dasharray": style.dash }, svg("title", {}, words));
    const last = line.points[line.points.length - 1];
    const end = mark(line.method, x(last[0]), y(last[1]), 4.5, { title: words });
    drawing.append(path, line.cell ? svg("a", { href: `#cell-${line.cell.number}`, "aria-label": words }, end) : end);
  }
  const table = plainTable(["Method or cell", "Start", "End", "Tokens"], lines.slice(0, 200).map((line) => {
    const last = line.points[line.points.length - 1];
    const text = (v) => (inPercent ? percent(v) : fixed(v));
    return [foreign(line.cell ? line.cell.title : line.method), text(line.points[0][1]), text(last[1]), whole(last[0])];
  }));
  return figure(title, lead + (relative ? " Several tasks or models: as the difference to the first point." : "") + (averaged ? " Means over cells." : ""),
    drawing, table, { below: legend([...new Set(lines.map((line) => line.method))].sort((a, b) => DATA.methods.indexOf(a) - DATA.methods.indexOf(b))) });
}

/** Mean of curves, point by point, as far as at least half of them go. */
function averageOf(all) {
  const found = [];
  for (let k = 0; ; k++) {
    const there = all.filter((points) => points.length > k);
    if (there.length < all.length / 2 || !there.length) return found;
    found.push([mean(there.map((p) => p[k][0])), mean(there.map((p) => p[k][1]))]);
  }
}
