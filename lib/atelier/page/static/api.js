// The requests to the server. What goes wrong is thrown as an Error whose message is a sentence for the user.

const VISITOR = Math.random().toString(36).slice(2);
const LOST = "The server does not answer. Is `atelier serve` still running?";

async function ask(path, value, signal) {
  const body = value && { method: "POST", body: JSON.stringify(value) };
  const headers = { "Content-Type": "application/json", "X-Visitor": VISITOR };
  const answer = await fetch(path, { ...body, headers, signal }).catch((fault) => {
    throw fault.name === "AbortError" ? fault : new Error(LOST);
  });
  if (!answer.ok) {
    const told = await answer.json().catch(() => ({}));
    throw new Error(told.error ?? `The server answers with the error ${answer.status}.`);
  }
  return answer;
}

export const presets = async () => (await ask("presets")).json();
export const look = async (picture) => (await ask("look", picture)).json();
export const save = async (pictures) => {
  const answer = await ask("save", pictures);
  const name = /filename\*=UTF-8''(.*)$/.exec(answer.headers.get("Content-Disposition"))[1];
  return { name: decodeURIComponent(name), file: await answer.blob() };
};

/** Draw: yield {ahead} while others draw, {progress, pictures} while it is drawn, and at last the whole drawing. */
export async function* draw(request, signal) {
  const answer = await ask("draw", request, signal);
  let finished = false;
  for await (const news of lines(answer.body)) {
    if (news.error) throw new Error(news.error);
    finished = news.progress === 1;
    yield news;
  }
  if (!finished) throw new Error("The connection ended before the drawing was finished. Try again.");
}

async function* lines(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n");
    rest = parts.pop();
    yield* parts.map((line) => JSON.parse(line));
  }
}
