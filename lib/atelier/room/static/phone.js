// The page for phones: join with the code, vote in the poll, see the pictures.

import { byId, make } from "/static/dom.js";
import { ask, listen } from "./live.js";
import { choiceParts, votesOf } from "./poll.js";
import { showWall } from "./wall.js";

const KEPT = "room-member"; // code, name, token and vote, so that a reloaded page is the same participant
const RETRY_SECONDS = 3;

const member = JSON.parse(sessionStorage.getItem(KEPT) ?? "{}");
let source = null; // the news
let poll = null; // as the server told it last

const tell = (sentence) => (byId("line").textContent = sentence);

function remember(values) {
  Object.assign(member, values);
  sessionStorage.setItem(KEPT, JSON.stringify(member));
}

async function join(code, name) {
  const { token, number, names } = await ask("/join", { code, name, token: member.token ?? "" });
  remember({ code, name, token });
  byId("join").hidden = true;
  byId("pictures").hidden = false;
  byId("you").textContent = names && name ? `You have joined as ${name}.` : `You have joined as number ${number}.`;
  source?.close();
  source = listen(token, { pictures: showPictures, poll: hearPoll }, tell, joinAgain);
}

/** After the room has forgotten this phone, or was started again. */
function joinAgain() {
  setTimeout(async () => {
    try {
      await join(member.code, member.name);
    } catch (fault) {
      tell(fault.message);
      if (fault.status === 403) return askForCode();
      joinAgain();
    }
  }, 1000 * RETRY_SECONDS);
}

function askForCode() {
  byId("join").hidden = false;
  byId("poll").hidden = byId("pictures").hidden = true;
}

function showPictures(pictures) {
  byId("none").hidden = pictures.length > 0;
  showWall(byId("wall"), pictures);
}

function hearPoll(news) {
  poll = news;
  showPoll();
}

function showPoll() {
  byId("poll").hidden = !poll;
  if (!poll) return;
  const own = member.poll === poll.number ? member.vote : undefined;
  const counted = own !== undefined || !poll.open; // the votes of others are shown after one's own
  const focused = [...byId("choices").children].indexOf(document.activeElement);
  byId("question").textContent = `Lesson ${poll.lesson}: ${poll.question}`;
  byId("choices").replaceChildren(...poll.choices.map((_, place) => choice(place, own, counted)));
  byId("choices").children[focused]?.focus();
  const votes = votesOf(poll);
  const all = votes === 1 ? "1 vote" : `${votes} votes`;
  const sentence = poll.open ? "You can change your vote until the poll is closed." : "The poll is closed.";
  byId("voted").textContent = counted ? `${all}. ${sentence}` : "";
}

function choice(place, own, counted) {
  const pressed = { pressed: String(place === own) };
  const button = make("button", { type: "button", className: "choice", aria: pressed, disabled: !poll.open });
  button.append(...choiceParts(poll, place, counted));
  button.addEventListener("click", async () => {
    try {
      const { number } = poll;
      await ask("/vote", { token: member.token, poll: number, choice: place });
      remember({ poll: number, vote: place });
      tell("");
      showPoll(); // the news with this vote may have come before the answer
    } catch (fault) {
      tell(fault.message);
    }
  });
  return button;
}

async function start() {
  byId("join").addEventListener("submit", (event) => {
    event.preventDefault();
    tell("");
    join(byId("code").value, byId("name").value.trim()).catch((fault) => tell(fault.message));
  });
  byId("code").value = location.pathname.slice(1) || (member.code ?? "");
  const { names } = await ask("/hello");
  byId("naming").hidden = !names;
  if (member.token) await join(member.code, member.name);
}

start().catch((fault) => tell(fault.message));
