(() => {
  const CHUNK = 100; // the style sheet prints as many
  const TYPING_MS = 120;
  const MEASURED = new Set(["playtime_forever", "last_played", "year"]);
  const TONES = { MATCHED: "main", IGNORED: "muted" };

  const { rows, words, links } = data;
  const all = rows.appid.map((_, row) => row);
  const collator = new Intl.Collator("en", { numeric: true, sensitivity: "base" });
  const tenths = new Intl.NumberFormat("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 });

  const isGame = (row) => rows.match_status[row] !== "IGNORED";
  const kindOf = (row) => rows.kind[row].replaceAll("_", " ");
  const BY_HAND = { MATCHED: "Matched by hand", IGNORED: "Ignored by hand" };
  function matchOf(row) {
    const [status, reason] = [rows.match_status[row], rows.match_reason[row]];
    if (reason === "override") return BY_HAND[status] ?? words.override;
    if (status === "IGNORED") return `Filtered: ${kindOf(row)}`;
    return status === "MATCHED" ? "Matched" : words[reason];
  }
  function hoursOf(row) {
    const minutes = rows.playtime_forever[row];
    return minutes === 0 ? "0" : minutes < 3 ? "< 0.1" : tenths.format(minutes / 60);
  }
  rows.match = all.map(matchOf);
  rows.genre_names = rows.genres.map((names) => names.join(", "));
  rows.played = rows.last_played.map((day) => day?.slice(0, 4) ?? null);

  const texts = all.map((row) =>
    folded([rows.name[row], rows.igdb_name[row] ?? "", rows.genre_names[row], kindOf(row), rows.match[row]].join("\n")));

  const isStatus = {
    played: (row) => isGame(row) && rows.playtime_forever[row] > 0,
    unplayed: (row) => isGame(row) && rows.playtime_forever[row] === 0,
    recent: (row) => isGame(row) && rows.playtime_2weeks[row] > 0,
    matched: (row) => rows.match_status[row] === "MATCHED",
    unmatched: (row) => rows.match_status[row] === "UNMATCHED",
    pending: (row) => rows.match_status[row] === "PENDING",
    filtered: (row) => !isGame(row),
  };
  const filters = {
    genre: (value) => (row) => rows.genres[row].includes(value),
    year: (value) => (row) => String(rows.year[row]) === value,
    played: (value) => (row) => rows.played[row] === value,
    platform: (value) => (row) => rows.platforms[row].includes(value),
    status: (value) => isStatus[value],
    q: (value) => {
      const terms = folded(value).split(/\s+/).filter(Boolean);
      return (row) => terms.every((term) => texts[row].includes(term) || term === String(rows.appid[row]));
    },
  };
  const controls = Object.keys(filters).map(byId);

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

  function link(text, url, label) {
    const made = document.createElement("a");
    Object.assign(made, { href: url, textContent: text, rel: "noopener noreferrer", target: "_blank" });
    if (label) made.setAttribute("aria-label", label);
    return made;
  }

  function filled(row) {
    const made = byId("row").content.cloneNode(true);
    const put = (where, text) => { made.querySelector(where).textContent = text; };
    const name = rows.name[row];
    put("bdi", name);
    put(".hours", hoursOf(row));
    put(".played", rows.last_played[row] ?? "");
    put(".year", rows.year[row] ?? "");
    put(".genres", rows.genre_names[row]);
    const sites = made.querySelector(".links");
    sites.append(link("Steam", `https://store.steampowered.com/app/${rows.appid[row]}`, `${name} on Steam`));
    if (rows.igdb_slug[row]) {
      sites.append(link("IGDB", `https://www.igdb.com/games/${encodeURIComponent(rows.igdb_slug[row])}`, `${name} on IGDB`));
    }
    const state = document.createElement("span");
    state.className = `state ${TONES[rows.match_status[row]] ?? "warn"}`;
    state.textContent = rows.match[row];
    const candidates = document.createElement("span");
    candidates.className = "candidates";
    candidates.append(...(links[rows.appid[row]] ?? []).map(({ label, url }) => link(label, url)));
    made.querySelector(".match").append(state, candidates);
    return made;
  }

  const body = byId("games").tBodies[0];
  const buttons = [...document.querySelectorAll("#games thead button")];
  const FIRST = { column: "playtime_forever", direction: "descending" };
  let sorted = FIRST;
  let found = [];

  function append() {
    const next = found.slice(body.rows.length, body.rows.length + CHUNK);
    const made = document.createDocumentFragment();
    made.append(...next.map(filled));
    body.append(made);
    byId("more").hidden = body.rows.length === found.length;
  }

  function refresh() {
    const tests = controls.filter((control) => control.value).map((control) => filters[control.id](control.value));
    found = ordered(sorted.column, sorted.direction).filter((row) => tests.every((test) => test(row)));
    body.replaceChildren();
    append();
    byId("none").hidden = found.length > 0;
    byId("save").disabled = found.length === 0;
    byId("clear").hidden = tests.length === 0;
    byId("count").textContent =
      `${thousands.format(found.length)} of ${thousands.format(all.length)} ${all.length === 1 ? "app" : "apps"}`;
    byId("printed").textContent = found.length > CHUNK
      ? `The first ${CHUNK} of ${thousands.format(found.length)} rows. The page saves all of them as CSV.` : "";
    for (const button of buttons) {
      const heading = button.closest("th");
      if (button.dataset.column === sorted.column) heading.setAttribute("aria-sort", sorted.direction);
      else heading.removeAttribute("aria-sort");
    }
  }

  /** Put filters and order into the address, which can be sent or kept; the usual ones are left out. */
  function showAddress() {
    const state = new URLSearchParams();
    for (const control of controls) if (control.value) state.set(control.id, control.value);
    if (sorted !== FIRST) state.set("sort", `${sorted.column} ${sorted.direction}`);
    history.replaceState(null, "", `#${state}`);
  }

  function readAddress() {
    const state = new URLSearchParams(location.hash.slice(1));
    for (const control of controls) {
      control.value = state.get(control.id) ?? "";
      if (control.selectedIndex === -1) control.value = ""; // this library has no such value
    }
    const [column, direction] = (state.get("sort") ?? "").split(" ");
    const isOrder = buttons.some((button) => button.dataset.column === column) && /^(a|de)scending$/.test(direction);
    sorted = isOrder ? { column, direction } : FIRST;
    refresh();
  }

  function change() {
    refresh();
    showAddress();
  }

  function sortBy(column) {
    const first = MEASURED.has(column) ? "descending" : "ascending";
    const other = first === "descending" ? "ascending" : "descending";
    sorted = { column, direction: sorted.column === column && sorted.direction === first ? other : first };
    change();
  }

  function save() {
    const columns = byId("save").dataset.columns.split(" ");
    const shown = (value) => (Array.isArray(value) ? value.join(", ") : value);
    saveCsv([columns, ...found.map((row) => columns.map((column) => shown(rows[column][row])))]);
  }

  function offer(id, values) {
    const select = byId(id);
    select.append(...values.map((value) => new Option(value)));
    select.parentElement.hidden = values.length === 0;
  }
  const distinct = (values) => [...new Set(values)].filter((value) => !isBlank(value));
  offer("genre", distinct(rows.genres.flat()).sort(collator.compare));
  offer("year", distinct(rows.year).sort((a, b) => b - a));
  offer("played", distinct(rows.played).sort().reverse());
  offer("platform", distinct(rows.platforms.flat()).sort(collator.compare));

  let typing = 0;
  for (const control of controls) control.addEventListener("change", change);
  byId("q").addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(change, TYPING_MS);
  });
  byId("filter").addEventListener("submit", (event) => event.preventDefault());
  byId("clear").addEventListener("click", () => {
    for (const control of controls) control.value = "";
    change();
    byId("q").focus();
  });
  byId("save").addEventListener("click", save);
  for (const button of buttons) button.addEventListener("click", () => sortBy(button.dataset.column));
  byId("more").addEventListener("click", append);
  window.addEventListener("hashchange", () => {
    if (location.hash === "#games-title") return; // the link that skips to the table says nothing of its rows
    readAddress();
    if (!location.hash.includes("=")) return;
    byId("games-title").scrollIntoView();
    byId("games-title").focus({ preventScroll: true });
  });

  byId("filter").hidden = byId("games").hidden = false;
  readAddress();
})();
