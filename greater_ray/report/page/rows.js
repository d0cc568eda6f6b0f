// Rows that the found prompt wins and loses against the start prompt, side by side, with how each answer was read.

function changedRows(cell, bySplit) {
  return Object.entries(bySplit).map(([split, found]) => {
    const [wins, losses, all] = found.counts;
    const lead = wins + losses
      ? `Of ${many(all, "row")} the found prompt wins ${wins} and loses ${losses}. Each side shows the model's reasoning, what it wrote after the extractor, and what was read there.`
      : `Of ${many(all, "row")} none has another score than under the start prompt.`;
    return el("section", { class: "rows" }, el("h2", {}, `Rows won and lost: ${split}`), el("p", { class: "lead" }, lead),
      rowGroup("Won", found.wins, "win"), rowGroup("Lost", found.losses, "loss"),
      found.left > 0 && el("p", { class: "note" }, `${many(found.left, "further row")} of these: `, el("code", {}, foreign(pathOf(cell, "record.json")))));
  });
}

function rowGroup(title, rows, kind) {
  if (!rows.length) return null;
  return el("details", { class: "row-group", open: rows.length <= 12 }, el("summary", {}, el("span", { class: `verdict ${kind}` }, kind === "win" ? "\u25b2 " : "\u25bc "), `${title}: ${many(rows.length, "row")}`),
    rows.map((row) => el("article", { class: "card row", "aria-label": `Row ${visible(row.id)}` },
      el("h4", {}, "Row ", foreign(row.id), el("span", { class: "push" }, "right answer ", foreign(row.target, { class: "foreign answer" }))),
      el("div", { class: "sides" }, side("Start prompt", row.before), side("Found prompt", row.after)))));
}

function side(title, answer) {
  const read = answer.read === null ? el("em", {}, "nothing could be read") : foreign(answer.read, { class: "foreign answer" });
  const right = answer.score === 1 ? ["\u2713 right", "win"] : answer.score === 0 ? ["\u2717 wrong", "loss"] : [`score ${fixed(answer.score, 2)}`, ""];
  const second = [
    ["from the reasoning alone", answer.strict],
    ...("generated" in answer ? [["from the written text", answer.generated]] : []),
  ];
  return el("div", { class: "side" },
    el("h5", {}, title, el("span", { class: `push verdict ${right[1]}` }, right[0])),
    el("div", { class: "part" }, el("span", { class: "part-name" }, "reasoning", answer.truncated && [" ", el("span", { class: "tag" }, `cut at its limit, ${whole(answer.tokens)} tokens`)]),
      answer.reasoning === "" ? el("em", { class: "dim" }, "none") : foreign(answer.reasoning, { class: "foreign block" })),
    el("div", { class: "part" }, el("span", { class: "part-name" }, "after the extractor"),
      answer.answer === "" ? el("em", { class: "dim" }, "nothing") : foreign(answer.answer, { class: "foreign block" })),
    el("p", { class: "read" }, "read as ", read, isNumber(answer.loss) && el("span", { class: "dim" }, `, loss of the right answer ${fixed(answer.loss, 2)}`)),
    el("p", { class: "dim" }, second.map(([name, value], k) => [k ? "; " : "", `${name}: `, value === null ? "nothing" : foreign(value)])));
}
