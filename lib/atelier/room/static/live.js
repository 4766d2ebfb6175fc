// Talking to the room's server: requests, and news that go on after an interruption.

const LOST = "The room does not answer. Trying again …";

/** Send a request; what goes wrong is thrown as an Error with a sentence and the status of the answer. */
export async function ask(path, value, headers = {}) {
  const body = value && { method: "POST", body: JSON.stringify(value) };
  const answer = await fetch(path, { ...body, headers: { "Content-Type": "application/json", ...headers } }).catch(() => {
    throw new Error("The room does not answer.");
  });
  const told = await answer.json().catch(() => ({}));
  if (answer.ok) return told;
  throw Object.assign(new Error(told.error ?? `The room answers with the error ${answer.status}.`), { status: answer.status });
}

/**
 * Listen to the room's news until it ends.
 * @param {string} token of the participant or the instructor
 * @param {Object<string, function>} hear part of the news → what to do with it
 * @param {function(string)} tell shows a sentence about the connection, or "" if all is well
 * @param {function} refused is called if the room does not know the token
 */
export function listen(token, hear, tell, refused) {
  const source = new EventSource(`/news?token=${encodeURIComponent(token)}`);
  for (const [part, act] of Object.entries(hear)) {
    source.addEventListener(part, (event) => act(JSON.parse(event.data)));
  }
  source.addEventListener("ended", () => {
    source.close();
    tell("The room has ended.");
  });
  source.addEventListener("open", () => tell(""));
  source.addEventListener("error", () => {
    tell(LOST);
    if (source.readyState === EventSource.CLOSED) refused(); // after an answer with an error; else the browser goes on
  });
  return source;
}
