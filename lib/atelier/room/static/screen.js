// The shared screen: how to join, and one of three views: the pictures, the results of exercises, the poll.

import { byId, make } from "/static/dom.js";
import { ask, listen } from "./live.js";
import { choiceParts, votesOf } from "./poll.js";
import { resultTable } from "./table.js";
import { fit, showWall } from "./wall.js";

const KEPT = "room-key"; // the instructor's key, kept out of the address that the projector shows
const SVG = "http://www.w3.org/2000/svg";
const UNDO_SECONDS = 12;

const key = takeKey();
const state = { view: "pictures", about: { people: 0, fault: "" }, pictures: [], table: [], poll: null, hidden: null };
let room = null; // what the server says about joining and lessons

function takeKey() {
  const given = location.hash.slice(1);
  if (given) {
    sessionStorage.setItem(KEPT, given);
    history.replaceState(null, "", location.pathname);
  }
  return sessionStorage.getItem(KEPT) ?? "";
}

const control = (what, value) =>
  ask("/screen/control", { do: what, what: value }, { "X-Room-Key": key }).catch((fault) => tellConnection(fault.message));

function tellConnection(sentence) {
  byId("connection").textContent = sentence;
}

// joining ----------------------------------------------------------------------------------------------------------

function showPlace() {
  const { address, joining, qr, size } = room.places[byId("place").selectedIndex];
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", `-4 -4 ${size + 8} ${size + 8}`); // with the light margin that readers need
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", `QR code of ${joining}`);
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", qr);
  svg.append(path);
  byId("qr").replaceChildren(svg);
  const [scheme, host] = address.split("//");
  const [name, port] = [host.slice(0, host.lastIndexOf(":")), host.slice(host.lastIndexOf(":"))];
  byId("address").replaceChildren(make("small", {}, `${scheme}//`), name, make("wbr"), port);
  byId("code").textContent = room.code;
  const short = joining.replace("http://", "");
  byId("how-draw").textContent = `atelier draw "a blue car" --room ${short}`;
  byId("how-join").textContent = `from atelier.teaching import join_room\njoin_room("${short}")`;
}

function showAbout() {
  const { people, fault } = state.about;
  byId("people").textContent = people === 1 ? "1 has joined" : `${people} have joined`;
  if (fault) tellConnection(fault);
}

// the views --------------------------------------------------------------------------------------------------------

function showView(view = state.view) {
  state.view = view;
  for (const name of ["pictures", "table", "poll"]) byId(name).hidden = name !== view;
  for (const tab of document.querySelectorAll("[data-view]")) {
    tab.setAttribute("aria-pressed", String(tab.dataset.view === view));
  }
  byId("clear").disabled = { pictures: !state.pictures.length, table: !state.table.length, poll: !votesNow() }[view];
  byId("line").textContent = "";
  byId("undo").hidden = view !== "pictures" || !state.hidden;
  ({ pictures: showPictures, table: showTable, poll: showPoll })[view]();
}

function showPictures() {
  const area = byId("pictures").getBoundingClientRect();
  const rem = parseFloat(getComputedStyle(document.documentElement).fontSize);
  const { shown, columns, side } = fit(state.pictures.length, area.width, area.height, rem, 2.8 * rem, 9.5 * rem);
  byId("how").hidden = state.pictures.length > 0;
  byId("wall").style.setProperty("--columns", columns);
  byId("wall").style.setProperty("--side", `${Math.floor(side)}px`);
  showWall(byId("wall"), state.pictures.slice(0, shown), hideButton);
  const more = state.pictures.length - shown;
  if (state.hidden) byId("line").textContent = `Hidden: “${state.hidden.prompt}”`;
  else if (more > 0) byId("line").textContent = `the newest ${shown} of ${state.pictures.length}`;
}

function hideButton(picture) {
  const button = make("button", { type: "button", className: "hide" }, "Hide");
  button.setAttribute("aria-label", `Hide “${picture.prompt}”`);
  button.addEventListener("click", async () => {
    await control("hide", picture.key);
    state.hidden = picture;
    showView();
    setTimeout(() => {
      if (state.hidden !== picture) return;
      state.hidden = null;
      showView();
    }, 1000 * UNDO_SECONDS);
  });
  return [button];
}

function showTable() {
  const none = make("p", { className: "empty" }, "The results of exercises appear here when laptops have joined from a lesson.");
  byId("table").replaceChildren(state.table.length ? resultTable(state.table) : none);
}

const votesNow = () => (state.poll ? votesOf(state.poll) : 0);

function showPoll() {
  const { poll } = state;
  byId("close").hidden = !poll?.open;
  byId("question").textContent = poll ? `Lesson ${poll.lesson}: ${poll.question}` : "";
  const places = poll ? [...poll.choices.keys()] : [];
  byId("choices").replaceChildren(...places.map((place) => make("li", {}, ...choiceParts(poll, place))));
  const votes = votesNow();
  const counted = votes === 1 ? "1 vote" : `${votes} votes`;
  byId("votes").textContent = !poll ? "" : poll.open ? `${counted}. Vote on your phone: scan the code.` : `${counted}. The poll is closed.`;
}

// the instructor ---------------------------------------------------------------------------------------------------

/** Act at the second click, so that a slip does not end the room. */
function sure(button, act) {
  const words = button.textContent;
  const calm = () => {
    button.textContent = words;
    delete button.dataset.sure;
  };
  button.addEventListener("click", () => {
    if (button.dataset.sure) {
      calm();
      act();
    } else {
      button.dataset.sure = "asked";
      button.textContent = `${words}: sure?`;
      setTimeout(calm, 4000);
    }
  });
}

function connect() {
  for (const tab of document.querySelectorAll("[data-view]")) tab.addEventListener("click", () => showView(tab.dataset.view));
  byId("place").addEventListener("change", showPlace);
  byId("ask-poll").addEventListener("submit", (event) => {
    event.preventDefault();
    control("open", byId("lesson").value);
  });
  byId("close").addEventListener("click", () => control("close"));
  byId("undo").addEventListener("click", () => {
    const { hidden } = state;
    state.hidden = null;
    control("show", hidden.key);
    showView();
  });
  sure(byId("clear"), () => control("clear", state.view));
  sure(byId("stop"), () => control("stop"));
  new ResizeObserver(() => showView()).observe(byId("pictures"));
}

const heard = (part, more = () => {}) => (news) => {
  const before = state[part];
  state[part] = news;
  more(before, news);
  showView();
};

async function start() {
  room = await ask("/screen/about", undefined, { "X-Room-Key": key });
  byId("place").replaceChildren(...room.places.map(({ address }) => new Option(address)));
  byId("choose-place").hidden = room.places.length < 2;
  byId("kept").hidden = !room.kept;
  byId("kept").textContent = "What is shown here is kept in a folder.";
  byId("lesson").replaceChildren(...Object.keys(room.lessons).map((lesson) => new Option(lesson)));
  showPlace();
  showView();
  connect();
  const hear = {
    about: heard("about", showAbout),
    pictures: heard("pictures"),
    table: heard("table"),
    poll: heard("poll", (before, poll) => {
      if (poll?.open && !before?.open) state.view = "poll";
      if (poll && poll.lesson !== before?.lesson) byId("lesson").value = poll.lesson;
    }),
  };
  listen(key, hear, tellConnection, () => setTimeout(() => location.reload(), 3000));
}

start().catch((fault) => {
  document.body.classList.add("refused");
  tellConnection(fault.message);
});
