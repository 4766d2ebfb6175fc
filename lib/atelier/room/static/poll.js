// The choices of the poll with their votes.

import { make } from "/static/dom.js";

/** The parts of a choice: its words, and, if they are to be shown, the number of its votes and a bar. */
export function choiceParts(poll, place, counted = true) {
  const votes = poll.counts[place];
  const most = Math.max(1, ...poll.counts);
  const bar = make("span", { className: "bar", hidden: !counted });
  bar.style.setProperty("--share", votes / most);
  const number = make("b", {}, counted ? String(votes) : "");
  if (counted) number.setAttribute("aria-label", votes === 1 ? "1 vote" : `${votes} votes`);
  return [make("span", { className: "words" }, poll.choices[place]), number, bar];
}

export const votesOf = (poll) => poll.counts.reduce((sum, votes) => sum + votes, 0);
