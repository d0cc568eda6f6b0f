// Elements and texts. What a model wrote reaches the page as text nodes alone: it is shown, never run.

const SVG = "http://www.w3.org/2000/svg";

/** Make an element; children are elements or strings, which become text. */
function el(name, attributes, ...children) {
  return filled(document.createElement(name), attributes, children);
}

/** The same in SVG. */
function svg(name, attributes, ...children) {
  return filled(document.createElementNS(SVG, name), attributes, children);
}

function filled(node, attributes, children) {
  for (const [key, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") node.addEventListener(key, value);
    else node.setAttribute(key, value === true ? "" : value);
  }
  for (const child of children.flat(Infinity)) {
    if (child !== null && child !== undefined && child !== false) node.append(child);
  }
  return node;
}

function emptied(id) {
  const node = document.getElementById(id);
  node.replaceChildren();
  return node;
}

// Characters that would move the cursor, turn the reading direction or stay unseen. Joiners are part of many scripts.
const UNSEEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;

/** Put a sign in the place of every control character. */
function visible(text) {
  return String(text).replace(UNSEEN, (found) => {
    const code = found.codePointAt(0);
    if (code < 32) return String.fromCodePoint(0x2400 + code);
    if (code === 127) return "\u2421";
    return `[U+${code.toString(16).toUpperCase().padStart(4, "0")}]`;
  });
}

/** Text of a prompt, a model or a row: kept apart from the text around it, whatever its direction. */
function foreign(text, attributes) {
  return el("bdi", { class: "foreign", dir: "auto", ...attributes }, visible(text));
}

/** A token, with the blanks at its ends to be seen. */
function token(text) {
  const seen = visible(text).replace(/^ +| +$/g, (blanks) => "\u2423".repeat(blanks.length)).replace(/\n/g, "\u240a");
  return el("bdi", { class: "foreign token", dir: "auto" }, seen === "" ? "(empty)" : seen);
}

const isNumber = (value) => typeof value === "number" && Number.isFinite(value);
const percent = (value, digits = 1) => (isNumber(value) ? `${(100 * value).toFixed(digits)} %` : "-");
const points = (value) => (isNumber(value) ? signed(100 * value, 1) : "-");
const signed = (value, digits) => `${value < 0 ? "\u2212" : "+"}${Math.abs(value).toFixed(digits)}`;
const fixed = (value, digits = 3) => (isNumber(value) ? value.toFixed(digits).replace("-", "\u2212") : "-");
const whole = (value) => (isNumber(value) ? Math.round(value).toLocaleString("en-US") : "-");

/** A number of tokens in a few characters. */
function short(value) {
  if (!isNumber(value)) return "-";
  for (const [size, unit] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
    if (value >= size) return `${(value / size).toFixed(value >= 100 * size ? 0 : 1).replace(/\.0$/, "")}${unit}`;
  }
  return String(Math.round(value));
}

function clock(seconds) {
  if (!isNumber(seconds)) return "-";
  const minutes = Math.floor(Math.round(seconds) / 60);
  const two = (n) => String(n).padStart(2, "0");
  return `${Math.floor(minutes / 60)}:${two(minutes % 60)}:${two(Math.round(seconds) % 60)}`;
}

function pValue(value) {
  if (!isNumber(value)) return "-";
  return value < 0.001 ? "< 0.001" : value.toFixed(value < 0.1 ? 3 : 2);
}

const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
const many = (count, one, more = `${one}s`) => `${count.toLocaleString("en-US")} ${count === 1 ? one : more}`;

function grouped(items, keyOf) {
  const groups = new Map();
  for (const item of items) {
    const key = keyOf(item);
    if (!groups.has(key)) groups.set(key, []);
    groups.get(key).push(item);
  }
  return groups;
}

function say(text) {
  document.getElementById("live").textContent = text;
}
