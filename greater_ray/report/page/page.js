// Start, routes and colours.

const VIEWS = { overview: drawOverview, results: drawTable, method: drawMethod };
const stale = new Set(Object.keys(VIEWS));
const THEMES = ["auto", "light", "dark"];

/** The part that the address names: "#cell-12", "#results". */
function route() {
  const [, name, number] = location.hash.match(/^#(overview|results|method|cell)(?:-(\d+))?$/) || [null, "overview"];
  return { name, number: number === undefined ? null : Number(number) };
}

async function show() {
  const { name, number } = route();
  for (const other of ["overview", "results", "cell", "method"]) {
    document.getElementById(`view-${other}`).hidden = other !== name;
  }
  for (const link of document.querySelectorAll(".top nav a")) {
    if (link.hash === `#${name}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.getElementById("filters").hidden = name === "cell";
  if (name === "cell") {
    if (number !== null || shownCell === null) await drawCell(number);
  } else {
    refresh(name);
  }
  document.body.dataset.view = name;
}

function refresh(name) {
  if (!stale.has(name)) return;
  stale.delete(name);
  VIEWS[name]();
}

/** Paper shows every part; each cell's page is printed only if it is open. */
function beforePrint() {
  for (const name of Object.keys(VIEWS)) refresh(name);
  openAll(document.getElementById("view-cell"), "details");
  openAll(document.getElementById("view-overview"), ".further");
}

function nextTheme() {
  const now = document.documentElement.dataset.theme || "auto";
  setTheme(THEMES[(THEMES.indexOf(now) + 1) % THEMES.length]);
}

function setTheme(theme) {
  const button = document.getElementById("theme");
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  button.textContent = { auto: "Auto", light: "Light", dark: "Dark" }[theme];
  button.setAttribute("aria-label", `Colours: ${theme === "auto" ? "as the system" : theme}`);
}

function about() {
  const count = (axis) => new Set(DATA.cells.map((cell) => cell[axis]).filter((value) => value !== "-")).size;
  const synthetic = DATA.cells.some((cell) => cell.synthetic);
  return [
    `${many(DATA.cells.length, "cell")}: ${many(count("method"), "method")}, ${many(count("task"), "task")}, ${many(count("model"), "model")}, ${many(count("seed"), "seed")}. `,
    synthetic && "Rows called synthetic are made by a generator: their scores are no results on a benchmark. ",
  ];
}

async function start() {
  await openOverview();
  document.getElementById("about").append(...about().filter(Boolean));
  document.getElementById("foot").append(`Made ${DATA.made.replace("T", " ").replace("+00:00", " UTC")} by greater-ray ${DATA.version} from `, el("code", {}, foreign(DATA.folder)), ".");
  buildFilters();
  whenChosen(() => {
    rowsWanted = PAGE;
    for (const name of Object.keys(VIEWS)) stale.add(name);
    show();
  });
  document.getElementById("theme").addEventListener("click", nextTheme);
  window.addEventListener("hashchange", async () => {
    await show();
    window.scrollTo(0, 0);
    document.getElementById("main").focus({ preventScroll: true });
  });
  window.addEventListener("beforeprint", beforePrint);
  recall();
  await show();
  keepUp();
  document.documentElement.dataset.ready = Math.round(performance.now());
}

start().catch((error) => {
  document.getElementById("about").textContent = `This report cannot be opened: ${error.message}`;
  throw error;
});
