// Files whose sizes and hashes are known: fetched once, checked, and kept in the browser's cache.

import { Fault } from "./fault.js";

const CACHE = "atelier-files";

/**
 * @param {URL} address
 * @param {{bytes: number, sha256: string}} facts
 * @param {(bytes: number) => void} onBytes called with the number of bytes of each part that arrives
 * @returns {Promise<Uint8Array>} the content
 */
export async function checkedFile(address, facts, onBytes) {
  const name = address.pathname.split("/").pop();
  const cache = await openCache();
  const key = `${address.href}?${facts.sha256}`;
  const kept = await cache?.match(key);
  if (kept) {
    const content = new Uint8Array(await kept.arrayBuffer());
    if (await isWhole(content, facts)) {
      onBytes(content.length);
      return content;
    }
  }
  const content = await received(address, name, onBytes);
  if (!(await isWhole(content, facts))) {
    throw new Fault(
      `The file ${name} is damaged: its content is not what the site's list of files says. Load the page again.`,
    );
  }
  for (const old of (await cache?.keys(address, { ignoreSearch: true })) ?? []) await cache.delete(old);
  await cache?.put(key, new Response(content)).catch(() => {}); // a full disk is no reason not to draw
  return content;
}

/** The JSON file at an address. */
export async function json(address) {
  return decodeJson(await received(address, address.pathname.split("/").pop(), () => {}));
}

export const decodeJson = (content) => JSON.parse(new TextDecoder().decode(content));

async function received(address, name, onBytes) {
  let response;
  try {
    response = await fetch(address, { cache: "no-cache" });
  } catch {
    throw new Fault(`The file ${name} could not be fetched. Check the connection, and load the page again.`);
  }
  if (!response.ok)
    throw new Fault(`The file ${name} is missing on this site (the server answered ${response.status}).`);
  const parts = [];
  for (const reader = response.body.getReader(); ;) {
    const { done, value } = await reader.read();
    if (done) break;
    parts.push(value);
    onBytes(value.length);
  }
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}

/** Whether the content has the right size and hash. Browsers compute hashes only over https and on the own machine. */
async function isWhole(content, { bytes, sha256 }) {
  if (content.length !== bytes) return false;
  if (!globalThis.crypto?.subtle) return true;
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", content));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("") === sha256;
}

/** The cache; undefined where the browser has none or refuses it, as in private windows and over plain http. */
async function openCache() {
  return globalThis.caches?.open(CACHE).catch(() => undefined);
}
