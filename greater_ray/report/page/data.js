// The data of the file: compressed blocks, of which the overview is opened first and the others when they are wanted.

let DATA = null;

async function opened(id) {
  const block = document.getElementById(id);
  if (block === null) return null;
  const bytes = Uint8Array.from(atob(block.textContent), (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return JSON.parse(await new Response(stream).text());
}

async function openOverview() {
  DATA = await opened("overview");
  DATA.cells.forEach((cell, number) => {
    cell.number = number;
    cell.splits = cell.splits || [];
  });
  DATA.methods = [...new Set(DATA.cells.map((cell) => cell.method))];
}

/** Whether the timeline, or the rows, of a cell are in the file. */
const hasLife = (cell) => (DATA.kept[cell.number] & 1) > 0;
const hasRows = (cell) => (DATA.kept[cell.number] & 2) > 0;

/** Path of a file of a cell's run folder. */
const pathOf = (cell, file) => [DATA.folder, cell.path, file].filter((part) => part && part !== ".").join("/");

/** Tokens of search and writer together. */
const searched = (cell) => (cell.tokens ? cell.tokens[0] + cell.tokens[1] : 0);

const significant = (p) => isNumber(p) && p < DATA.alpha;

/** "win", "loss", "draw", or "kept" where the prompt has not changed. */
function outcomeOf(score, adjusted) {
  if (score.change === null) return "kept";
  if (!significant(adjusted ? score.holm : score.p_value)) return "draw";
  return score.change > 0 ? "win" : "loss";
}
