"use strict";
(() => {
  const CHUNK = 50;
  const TYPING_MS = 120;
  const MEASURED = new Set(["playtime_forever", "last_played", "year"]);
  const TONES = { MATCHED: "main", IGNORED: "muted" };

  const byId = (id) => document.getElementById(id);
  const { rows, words } = JSON.parse(byId("data").textContent);
  const all = rows.appid.map((_, row) => row);
  const collator = new Intl.Collator("en", { numeric: true, sensitivity: "base" });
  const hours = new Intl.NumberFormat("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 });
  const count = new Intl.NumberFormat("en");

  const isGame = (row) => rows.match_status[row] !== "IGNORED";
  const kindOf = (row) => rows.kind[row].replaceAll("_", " ");
  const BY_HAND = { MATCHED: "Matched by hand", IGNORED: "Ignored by hand" };
  function matchOf(row) {
    const [status, reason] = [rows.match_status[row], rows.match_reason[row]];
    if (reason === "override") return BY_HAND[status] ?? words.override;
    if (status === "IGNORED") return `Filtered: ${kindOf(row)}`;
    return status === "MATCHED" ? "Matched" : words[reason];
  }
  rows.match = all.map(matchOf);

  // Without accents and case, so that pokemon finds Pokémon.
  const folded = (text) => text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();
  const texts = all.map((row) =>
    folded([rows.name[row], rows.igdb_name[row] ?? "", rows.genres[row], kindOf(row), rows.match[row]].join("\n")));

  const shows = {
    all: () => true,
    unplayed: (row) => isGame(row) && rows.playtime_forever[row] === 0,
  };
  const isShown = (choice) => shows[choice] ?? ((row) => rows.match_status[row] === choice);

  const isBlank = (value) => value === null || value === "";
  const orders = new Map();
  /** All rows in the order of a column, the blank ones last whatever the direction; sorted once each. */
  function ordered(column, direction) {
    const key = `${column} ${direction}`;
    if (!orders.has(key)) {
      const values = rows[column];
      const compare = MEASURED.has(column) ? (a, b) => (a > b) - (a < b) : collator.compare;
      const sign = direction === "ascending" ? 1 : -1;
      const [blank, said] = [[], []];
      for (const row of all) (isBlank(values[row]) ? blank : said).push(row);
      orders.set(key, said.sort((a, b) => sign * compare(values[a], values[b])).concat(blank));
    }
    return orders.get(key);
  }

  function link(site, name, url) {
    const made = document.createElement("a");
    Object.assign(made, { href: url, textContent: site, rel: "noopener noreferrer", target: "_blank" });
    made.setAttribute("aria-label", `${name} on ${site}`);
    return made;
  }

  function filled(row) {
    const made = byId("row").content.cloneNode(true);
    const put = (where, text) => { made.querySelector(where).textContent = text; };
    const name = rows.name[row];
    put("bdi", name);
    put(".hours", rows.playtime_forever[row] ? hours.format(rows.playtime_forever[row] / 60) : "0");
    put(".played", rows.last_played[row] ?? "");
    put(".year", rows.year[row] ?? "");
    put(".genres", rows.genres[row]);
    const links = made.querySelector(".links");
    links.append(link("Steam", name, `https://store.steampowered.com/app/${rows.appid[row]}`));
    if (rows.igdb_slug[row]) {
      links.append(link("IGDB", name, `https://www.igdb.com/games/${encodeURIComponent(rows.igdb_slug[row])}`));
    }
    const state = document.createElement("span");
    state.className = `state ${TONES[rows.match_status[row]] ?? "warn"}`;
    state.textContent = rows.match[row] + (rows.candidates[row] && `: ${rows.candidates[row]}`);
    made.querySelector(".match").append(state);
    return made;
  }

  const body = byId("games").tBodies[0];
  const buttons = [...document.querySelectorAll("#games thead button")];
  let sorted = { column: "playtime_forever", direction: "descending" };
  let found = [];

  function append(most) {
    const next = found.slice(body.rows.length, body.rows.length + most);
    const made = document.createDocumentFragment();
    made.append(...next.map(filled));
    body.append(made);
    byId("more").hidden = body.rows.length === found.length;
  }

  function refresh() {
    const terms = folded(byId("search").value).split(/\s+/).filter(Boolean);
    const shown = isShown(byId("show").value);
    found = ordered(sorted.column, sorted.direction)
      .filter((row) => shown(row) && terms.every((term) => texts[row].includes(term) || term === String(rows.appid[row])));
    body.replaceChildren();
    append(CHUNK);
    byId("none").hidden = found.length > 0;
    byId("count").textContent = `${count.format(found.length)} of ${count.format(all.length)} apps`;
  }

  function sortBy(column) {
    const first = MEASURED.has(column) ? "descending" : "ascending";
    const other = first === "descending" ? "ascending" : "descending";
    sorted = { column, direction: sorted.column === column && sorted.direction === first ? other : first };
    showSorting();
    refresh();
  }

  function showSorting() {
    for (const button of buttons) {
      const heading = button.closest("th");
      if (button.dataset.column === sorted.column) heading.setAttribute("aria-sort", sorted.direction);
      else heading.removeAttribute("aria-sort");
    }
  }

  let typing = 0;
  byId("search").addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(refresh, TYPING_MS);
  });
  byId("show").addEventListener("change", refresh);
  byId("filter").addEventListener("submit", (event) => event.preventDefault());
  for (const button of buttons) button.addEventListener("click", () => sortBy(button.dataset.column));
  byId("more").addEventListener("click", () => append(CHUNK));
  new IntersectionObserver((seen) => seen.some((entry) => entry.isIntersecting) && append(CHUNK), { rootMargin: "600px" })
    .observe(byId("more"));
  // Paper cannot be scrolled.
  window.addEventListener("beforeprint", () => append(found.length));

  byId("filter").hidden = byId("games").hidden = false;
  showSorting();
  refresh();
})();
