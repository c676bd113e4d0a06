(() => {
  const CHUNK = 50;
  const TYPING_MS = 120;
  const LATER = "later";
  const MOST_IGDB_ID = 2 ** 31 - 1;

  const { apps, digest, words } = data;
  const place = new Map(apps.map((app, index) => [app.appid, index]));
  const hours = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
  const many = (count, noun) => `${thousands.format(count)} ${noun}${count === 1 ? "" : "s"}`;
  const nameOf = (app) => app.name ?? `App ${app.appid}`;
  const texts = apps.map((app) => folded(nameOf(app)));

  // Decisions: a mapping of appid to [action, igdb_id]. The browser keeps them, those of each sheet for itself.
  const KEY = `steam-import review ${digest}`;
  let decisions = new Map(read());
  const past = [];

  function read() {
    try {
      const kept = JSON.parse(localStorage.getItem(KEY) ?? "[]");
      return Array.isArray(kept) ? kept.filter(([appid]) => place.has(appid)) : [];
    } catch {
      return [];
    }
  }
  function keep(key = KEY) {
    try {
      localStorage.setItem(key, JSON.stringify([...decisions]));
    } catch {
      byId("told").textContent = "This browser keeps nothing: save the decisions before you close the page.";
    }
  }
  // The same sheet in another tab.
  window.addEventListener("storage", (event) => {
    if (event.key !== KEY) return;
    decisions = new Map(read());
    past.length = 0;
    showCount();
    refresh();
  });

  function decide(appid, decision, isUndone = false) {
    const before = decisions.get(appid);
    if (JSON.stringify(before) === JSON.stringify(decision)) return;
    if (!isUndone) past.push([appid, before]);
    if (decision) decisions.set(appid, decision);
    else decisions.delete(appid);
    byId("told").textContent = "";
    keep();
    showCount();
    const made = document.getElementById(`app-${appid}`);
    if (made) showDecision(made, appid);
  }

  function undo() {
    if (!past.length) return;
    const [appid, before] = past.pop();
    decide(appid, before, true);
    byId("told").textContent = `Undone: ${nameOf(apps[place.get(appid)])}.`;
  }

  function showCount() {
    byId("count").textContent = `${thousands.format(decisions.size)} of ${many(apps.length, "game")} decided`;
    Object.assign(byId("progress"), { max: apps.length || 1, value: decisions.size });
    byId("save").disabled = decisions.size === 0;
    byId("undo").setAttribute("aria-disabled", String(past.length === 0)); // it keeps the focus
  }

  const valueOf = ([action, id]) => (action === "match" ? `match ${id}` : action);
  function showDecision(fieldset, appid) {
    const decision = decisions.get(appid);
    fieldset.classList.toggle("is-decided", decision !== undefined);
    const value = decision ? valueOf(decision) : LATER;
    const radios = [...fieldset.querySelectorAll("input[type=radio]")];
    const found = radios.find((radio) => radio.value === value);
    const other = fieldset.querySelector("input[type=text]");
    if (!found) other.value = decision[1]; // a number that is among no candidates
    const chosen = found ?? radios.find((radio) => radio.value === "other");
    chosen.checked = true;
    other.hidden = chosen.value !== "other";
  }

  function choice(app, value, text, more = "") {
    const made = byId("choice").content.cloneNode(true);
    Object.assign(made.querySelector("input"), { name: `choice-${app.appid}`, value });
    made.querySelector("bdi").textContent = text;
    made.querySelector(".score").textContent = more;
    return made;
  }

  function otherGame(app) {
    const made = choice(app, "other", "Another game, by its number on IGDB");
    const label = made.querySelector("label");
    const number = document.createElement("input");
    Object.assign(number, { type: "text", inputMode: "numeric", autocomplete: "off" });
    number.setAttribute("aria-label", `IGDB's number of the game that ${nameOf(app)} is`);
    label.classList.add("other");
    label.querySelector(".score").replaceWith(number);
    return made;
  }

  function made(app) {
    const item = byId("app").content.cloneNode(true);
    const name = nameOf(app);
    const played = hours.format(app.playtime_forever / 60);
    const put = (where, text) => { item.querySelector(where).textContent = text; };
    const fieldset = item.querySelector("fieldset");
    fieldset.id = `app-${app.appid}`;
    fieldset.dataset.appid = app.appid;
    put(".name", name);
    put(".played", `${app.name === null ? "" : `App ${app.appid}, `}${played} ${played === "1" ? "hour" : "hours"}, ${many(app.owners, "owner")}`);
    const store = item.querySelector(".store");
    store.href = `https://store.steampowered.com/app/${app.appid}`;
    store.setAttribute("aria-label", `${name} on Steam`);
    const search = item.querySelector(".search");
    search.href = `https://www.igdb.com/search?q=${encodeURIComponent(name)}`;
    search.setAttribute("aria-label", `Search IGDB for ${name}`);
    put(".why", why(app));
    const choices = item.querySelector(".choices");
    for (const { id, label, score } of app.candidates) choices.append(choice(app, `match ${id}`, label, `${score} % alike`));
    choices.append(otherGame(app));
    choices.append(choice(app, "ignore", "No game: it is not imported"));
    if (app.match_status === "IGNORED") choices.append(choice(app, "game", "A game, to be matched to IGDB"));
    choices.append(choice(app, LATER, "Decide later"));
    showDecision(fieldset, app.appid);
    return item;
  }

  function why(app) {
    const parts = [words[app.match_reason]];
    if (app.match_reason === "filtered") parts[0] = `filtered as ${app.kind.replaceAll("_", " ")}`;
    if (app.proposed) parts.push("today's rules take it for a game");
    if (app.matched) parts.push(`now ${app.matched} (${app.matched_id})`);
    if (app.decided) parts.push(`decided before: ${app.decided}`);
    const text = parts.join("; ");
    return `${text[0].toUpperCase()}${text.slice(1)}.`;
  }

  const list = byId("apps");
  let found = apps;
  function append() {
    const next = found.slice(list.children.length, list.children.length + CHUNK);
    const fragment = document.createDocumentFragment();
    fragment.append(...next.map(made));
    list.append(fragment);
    byId("more").hidden = list.children.length === found.length;
  }
  function refresh() {
    const terms = folded(byId("q").value).split(/\s+/).filter(Boolean);
    const show = byId("show").value;
    found = apps.filter((app, index) =>
      (show === "all" || decisions.has(app.appid) === (show === "decided"))
      && terms.every((term) => texts[index].includes(term) || term === String(app.appid)));
    list.replaceChildren();
    append();
    byId("none").hidden = found.length > 0 || apps.length === 0;
  }

  /** The decision that a checked radio stands for; undefined for none, null for a number that is not one yet. */
  function chosen(fieldset) {
    const value = fieldset.querySelector("input[type=radio]:checked").value;
    if (value === LATER) return undefined;
    if (value !== "other") return value.startsWith("match ") ? ["match", Number(value.slice(6))] : [value, null];
    const other = fieldset.querySelector("input[type=text]");
    const id = /^\s*\d+\s*$/.test(other.value) ? Number(other.value) : 0;
    const isId = id >= 1 && id <= MOST_IGDB_ID;
    other.setAttribute("aria-invalid", String(other.value.trim() !== "" && !isId));
    return isId ? ["match", id] : null;
  }
  let waiting = null; // the fieldset of a game whose number is still to be written
  let isArrow = false;
  function take(event) {
    const fieldset = event.target.closest("fieldset");
    if (!fieldset) return;
    const appid = Number(fieldset.dataset.appid);
    const decision = chosen(fieldset);
    if (decision !== null) {
      decide(appid, decision);
      return;
    }
    // The number is still to be written: what was decided stays. Arrow keys can go on to the choice below.
    waiting = fieldset;
    const number = fieldset.querySelector("input[type=text]");
    number.hidden = false;
    if (event.target !== number && !isArrow) number.focus();
  }
  /** Show the decision again where a game is left without the number that it was to get. */
  function leave({ target }) {
    if (!waiting || waiting.contains(target)) return;
    // Afterwards, as a click on what moves up would miss it.
    setTimeout(showDecision, 0, waiting, Number(waiting.dataset.appid));
    waiting = null;
  }

  function go(fieldset, step) {
    const index = found.findIndex((app) => app.appid === Number(fieldset.dataset.appid)) + step;
    if (index < 0 || index >= found.length) return;
    while (index >= list.children.length) append();
    const next = list.children[index].querySelector("input:checked");
    next.focus({ preventScroll: true });
    next.closest("fieldset").scrollIntoView({ block: "nearest" });
  }
  function press(event) {
    isArrow = event.key.startsWith("Arrow");
    const fieldset = event.target.closest?.("fieldset");
    if (!fieldset || event.target.type === "text" || event.ctrlKey || event.metaKey || event.altKey) return;
    const radios = [...fieldset.querySelectorAll("input[type=radio]")];
    const byValue = (value) => radios.find((radio) => radio.value === value);
    const key = event.key.toLowerCase();
    const radio = { x: byValue("ignore"), 0: byValue(LATER) }[key]
      ?? (/^[1-5]$/.test(key) ? radios.filter(({ value }) => value.startsWith("match "))[Number(key) - 1] : undefined);
    if (radio) {
      radio.checked = true;
      radio.focus();
      take({ target: radio });
    } else if (key === "n" || key === "p") go(fieldset, key === "n" ? 1 : -1);
    else if (key === "u") undo();
    else return;
    event.preventDefault();
  }

  function save() {
    const lines = apps.filter(({ appid }) => decisions.has(appid)).map((app) => {
      const [action, id] = decisions.get(app.appid);
      return [app.appid, app.name, action, id, null];
    });
    saveCsv([["appid", "name", "action", "igdb_id", "note"], ...lines]);
    byId("told").textContent = `${many(lines.length, "decision")} saved. Next: steam-import review apply games.csv`;
  }

  let typing = 0;
  byId("q").addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(refresh, TYPING_MS);
  });
  byId("show").addEventListener("change", refresh);
  byId("filter").addEventListener("submit", (event) => event.preventDefault());
  byId("more").addEventListener("click", () => {
    const first = list.children.length;
    append();
    list.children[first]?.querySelector("input:checked").focus();
  });
  byId("undo").addEventListener("click", undo);
  byId("save").addEventListener("click", save);
  list.addEventListener("change", take);
  document.addEventListener("focusin", leave);
  list.addEventListener("keydown", press);
  list.addEventListener("keyup", () => { isArrow = false; });

  byId("tools").hidden = byId("filter").hidden = byId("keys").hidden = apps.length === 0;
  showCount();
  refresh();
  keep("steam-import review"); // a try under another key, which tells at once if this browser keeps nothing
})();
