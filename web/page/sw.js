// Keeps the page for when there is no connection. What the network has may be newer, so that it is asked first.

const CACHE = "wgrad-page";

self.addEventListener("install", (event) => {
  const fill = async () => {
    const list = await (await fetch("files.txt")).text();
    const cache = await caches.open(CACHE);
    await cache.addAll(["./", ...list.trim().split("\n")]);
  };
  event.waitUntil(fill());
});

self.addEventListener("fetch", (event) => {
  const { method, url } = event.request;
  const { scope } = self.registration;
  // The images are in a cache of their own (worker.js).
  const isPage = method === "GET" && url.startsWith(scope) && !url.startsWith(`${scope}data/`);
  if (isPage) event.respondWith(answer(event.request));
});

async function answer(request) {
  const cache = await caches.open(CACHE);
  try {
    const response = await fetch(request);
    if (response.ok) await cache.put(request, response.clone());
    return response;
  } catch (error) {
    const kept = await cache.match(request, { ignoreSearch: true });
    if (kept) return kept;
    throw error;
  }
}
