"use strict";
const byId = (id) => document.getElementById(id);
const data = JSON.parse(byId("data").textContent);
const thousands = new Intl.NumberFormat("en");

/** A text without accents and case, so that pokemon finds Pokémon. */
const folded = (text) => text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();

/** Let the browser save lines of cells as games.csv, for spreadsheets, which take some texts for formulas. */
function saveCsv(lines) {
  // `escape_formulas` of the pipeline does the same to its CSVs.
  const escaped = (text) => text.replace(/^('*[=+\-@＝＋－＠\t\r\n])/, "'$1").replace(/([;\t\r\n])(['"]*[=+\-@＝＋－＠])/g, "$1'$2");
  const cell = (value) => (typeof value === "string" ? `"${escaped(value).replaceAll('"', '""')}"` : String(value ?? ""));
  const csv = [...lines.map((cells) => cells.map(cell).join(",")), ""].join("\n");
  const url = URL.createObjectURL(new Blob(["\ufeff", csv], { type: "text/csv" }));
  Object.assign(document.createElement("a"), { href: url, download: "games.csv" }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
