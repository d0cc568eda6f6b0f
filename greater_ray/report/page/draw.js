// Charts by hand: scales, axes, and marks that colour-blind readers and grey printers tell apart.

const SHAPES = ["circle", "square", "triangle", "diamond", "down", "plus", "cross", "hexagon"];
const DASHES = ["", "7 3", "2 3", "9 3 2 3", "12 4", "4 2", "1 2", "14 3 3 3"];

/** How a method looks: always the same in one report, whatever is filtered. Each eighth pairs colours and shapes anew. */
function styleOf(method) {
  const number = Math.max(0, DATA.methods.indexOf(method));
  const turn = Math.floor(number / SHAPES.length);
  return {
    colour: `m${number % SHAPES.length}`,
    shape: SHAPES[(number + turn) % SHAPES.length],
    dash: DASHES[(number + turn) % DASHES.length],
  };
}

function outline(shape, x, y, r) {
  const at = (pairs) => `M${pairs.map(([dx, dy]) => `${(x + dx * r).toFixed(2)},${(y + dy * r).toFixed(2)}`).join("L")}Z`;
  const bar = 0.38;
  const plus = [[-bar, -1.1], [bar, -1.1], [bar, -bar], [1.1, -bar], [1.1, bar], [bar, bar], [bar, 1.1], [-bar, 1.1],
    [-bar, bar], [-1.1, bar], [-1.1, -bar], [-bar, -bar]];
  const turned = plus.map(([a, b]) => [(a - b) * 0.75, (a + b) * 0.75]);
  return {
    circle: `M${x - r},${y}a${r},${r} 0 1,0 ${2 * r},0a${r},${r} 0 1,0 ${-2 * r},0Z`,
    square: at([[-0.9, -0.9], [0.9, -0.9], [0.9, 0.9], [-0.9, 0.9]]),
    triangle: at([[0, -1.15], [1.1, 0.85], [-1.1, 0.85]]),
    down: at([[0, 1.15], [1.1, -0.85], [-1.1, -0.85]]),
    diamond: at([[0, -1.25], [1.25, 0], [0, 1.25], [-1.25, 0]]),
    plus: at(plus),
    cross: at(turned),
    hexagon: at([[-0.55, -1], [0.55, -1], [1.1, 0], [0.55, 1], [-0.55, 1], [-1.1, 0]]),
  }[shape];
}

function mark(method, x, y, r = 4.5, more = {}) {
  const style = styleOf(method);
  return svg("path", { d: outline(style.shape, x, y, r), class: `mark ${style.colour} ${more.class || ""}` }, more.title && svg("title", {}, more.title));
}

function legend(methods) {
  const items = methods.map((method) => {
    const sign = svg("svg", { viewBox: "0 0 26 14", width: 26, height: 14, "aria-hidden": "true" });
    const style = styleOf(method);
    sign.append(svg("path", { d: "M1,7H25", class: `line ${style.colour}`, "stroke-dasharray": style.dash }));
    sign.append(mark(method, 13, 7, 4.2));
    return el("li", {}, sign, foreign(method));
  });
  return el("ul", { class: "legend", "aria-label": "Methods" }, items);
}

/** A figure with a heading, what it shows in words, and its numbers as a table for those who do not see it. */
function figure(title, lead, drawing, table, more) {
  return el(
    "figure",
    { class: `card ${(more && more.class) || ""}` },
    el("h3", {}, title),
    lead && el("p", { class: "lead" }, lead),
    more && more.controls,
    drawing,
    more && more.below,
    table && el("details", { class: "figures" }, el("summary", {}, "Figures as a table"), table),
  );
}

function plainTable(columns, rows) {
  const head = el("tr", {}, columns.map((name) => el("th", { scope: "col" }, name)));
  const body = rows.map((row) =>
    el("tr", {}, row.map((value, k) => (k ? el("td", {}, value) : el("th", { scope: "row" }, value)))));
  return el("div", { class: "scroll" }, el("table", { class: "plain" }, el("thead", {}, head), el("tbody", {}, body)));
}

/** A drawing; one with links in it is a group for screen readers, since an image would hide them. */
function canvas(width, height, label, links) {
  return svg("svg", { viewBox: `0 0 ${width} ${height}`, role: links ? "group" : "img", "aria-label": label, class: "chart" });
}

function linear(from, to, begin, end) {
  const span = to - from || 1;
  return (value) => begin + ((value - from) / span) * (end - begin);
}

/** Round numbers that cover a range, about so many. */
function ticks(from, to, count = 5) {
  const span = to - from || Math.abs(to) || 1;
  const raw = span / count;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = power * ([1, 2, 2.5, 5, 10].find((k) => k * power >= raw) || 10);
  const found = [];
  for (let k = Math.ceil(from / step - 1e-9); k * step <= to + step * 1e-9; k++) found.push(Number((k * step).toPrecision(12)));
  return found;
}

/** The range of values with some room around it. */
function range(values, room = 0.06) {
  const low = Math.min(...values);
  const high = Math.max(...values);
  const more = (high - low || Math.abs(high) || 1) * room;
  return [low - more, high + more];
}

/** Both axes of a plot. `box` is [left, top, right, bottom]; x and y have `at` (scale), `ticks`, `text` and `label`. */
function axes(drawing, box, x, y) {
  const [left, top, right, bottom] = box;
  for (const value of y.ticks) {
    const at = y.at(value);
    drawing.append(svg("path", { d: `M${left},${at}H${right}`, class: "grid" }));
    drawing.append(svg("text", { x: left - 6, y: at + 4, class: "tick end" }, y.text(value)));
  }
  for (const value of x.ticks) {
    const at = x.at(value);
    drawing.append(svg("path", { d: `M${at},${bottom}v4`, class: "axis" }));
    drawing.append(svg("text", { x: at, y: bottom + 16, class: "tick middle" }, x.text(value)));
  }
  drawing.append(svg("path", { d: `M${left},${bottom}H${right}`, class: "axis" }));
  drawing.append(svg("text", { x: (left + right) / 2, y: bottom + 34, class: "name middle" }, x.label));
  drawing.append(svg("text", { x: left - 2, y: top - 14, class: "name start" }, y.label));
}

/** Hatches by which areas differ without colour; ids are unique in the page. */
let hatches = 0;
function hatch(drawing, kind) {
  const id = `hatch-${++hatches}`;
  const lines = { draw: "", win: "M0,6L6,0", loss: "M0,0L6,6M0,6L6,0", kept: "M3,2.4v1.2" }[kind];
  drawing.append(
    svg("defs", {}, svg("pattern", { id, width: 6, height: 6, patternUnits: "userSpaceOnUse" },
      svg("rect", { width: 6, height: 6, class: `fill-${kind}` }), svg("path", { d: lines, class: "hatch" }))),
  );
  return `url(#${id})`;
}
