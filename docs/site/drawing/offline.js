// Keeps a page for visits without a network. The files of models are kept by files.js; the site's service-worker.js
// answers with what is kept if there is no network.

const CACHE = "atelier-page";
const ROOT = new URL("../../", import.meta.url);

/** @param {{scripts: string[]}} list the site's list of models, which names the scripts that a worker fetches */
export async function keepForOffline(list) {
  if (!navigator.serviceWorker || !globalThis.caches) return;
  await navigator.serviceWorker.register(new URL("service-worker.js", ROOT));
  const fetched = performance.getEntriesByType("resource").map(({ name }) => name.split("#")[0]);
  const own = fetched.filter((address) => address.startsWith(ROOT.href) && !/\.(onnx|bin)$/.test(address));
  const scripts = list.scripts.map((name) => new URL(name, import.meta.url).href);
  const cache = await caches.open(CACHE);
  const addresses = new Set([location.href.split(/[?#]/)[0], ...own, ...scripts]);
  await Promise.allSettled(Array.from(addresses, (address) => cache.add(address)));
}
