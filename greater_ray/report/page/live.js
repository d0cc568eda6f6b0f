// A report that is written again and again reloads itself, and is then where the reader was.

const PLACE = "greater-ray-report";
let waiting = 0;

/** Files from disk may have no storage: then a reload begins at the top. */
function stored(action) {
  try {
    return action(sessionStorage);
  } catch {
    return null;
  }
}

function recall() {
  const kept = stored((storage) => storage.getItem(PLACE));
  if (!kept) return;
  stored((storage) => storage.removeItem(PLACE));
  const place = JSON.parse(kept);
  const form = document.getElementById("filters");
  for (const [name, value] of Object.entries(place.chosen)) {
    const field = form.elements[name];
    if (!field) continue;
    field.value = value;
    if (field.value === value) chosen[name] = value;
  }
  Object.assign(order, place.order);
  setTheme(place.theme);
  setTimeout(() => window.scrollTo(0, place.scroll), 50);
}

function keepUp() {
  if (!isNumber(DATA.refresh)) return;
  const button = document.getElementById("live-now");
  button.hidden = false;
  button.addEventListener("click", () => (waiting ? pause(button) : wait(button)));
  wait(button);
}

function pause(button) {
  clearTimeout(waiting);
  waiting = 0;
  button.textContent = "Paused";
  button.setAttribute("aria-label", "Paused: follow the run again");
}

function wait(button) {
  button.textContent = "\u25cf Live";
  button.setAttribute("aria-label", `Live, reloads every ${DATA.refresh} seconds: pause`);
  waiting = setTimeout(() => {
    const place = { chosen, order, scroll: window.scrollY, theme: document.documentElement.dataset.theme || "auto" };
    stored((storage) => storage.setItem(PLACE, JSON.stringify(place)));
    location.reload();
  }, 1000 * DATA.refresh);
}
