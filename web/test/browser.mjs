// A web server for the site, and a browser over it.

import { createServer } from "node:http";
import { readFile } from "node:fs/promises";
import { extname, join, normalize } from "node:path";
import { chromium } from "playwright-core";

const TYPES = { ".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".wasm": "application/wasm" };

/// Serves a folder; gives its address and a function that ends it.
export async function serve(folder) {
  const server = createServer(async (request, response) => {
    const asked = normalize(new URL(request.url, "http://localhost").pathname);
    const path = asked.endsWith("/") ? `${asked}index.html` : asked;
    try {
      const bytes = await readFile(join(folder, path));
      response.writeHead(200, { "content-type": TYPES[extname(path)] ?? "application/octet-stream" });
      response.end(bytes);
    } catch {
      response.writeHead(404).end();
    }
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { url: `http://localhost:${server.address().port}/`, close: () => server.close() };
}

const QUIET = ["--disable-background-networking", "--disable-component-update", "--disable-default-apps", "--no-first-run", "--disable-sync"];

/// A browser with SwiftShader behind WebGPU; without WebGPU where `webgpu` is false.
export function launch({ webgpu = true } = {}) {
  const gpu = webgpu ? ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"] : ["--disable-features=WebGPU", "--disable-gpu"];
  return chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    headless: true,
    // Containers have little shared memory.
    args: ["--no-sandbox", "--disable-dev-shm-usage", ...gpu, ...QUIET],
  });
}

/// The page, open and ready, in a profile of its own, with what it complains of. `before` may change what it loads.
export async function open(browser, url, { width = 1280, height = 900, colorScheme = "light", locale = "en-GB", before } = {}) {
  const context = await browser.newContext({ viewport: { width, height }, colorScheme, locale, serviceWorkers: before ? "block" : "allow", acceptDownloads: true });
  // A busy machine must not look like a fault.
  context.setDefaultTimeout(120_000);
  const page = await context.newPage();
  const complaints = [];
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) complaints.push(message.text());
  });
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("requestfailed", (request) => complaints.push(`${request.url()}: ${request.failure()?.errorText}`));
  if (before) await before(page);
  await page.goto(url);
  await page.waitForSelector("body[data-state=idle]", { timeout: 180_000 }).catch(async () => {
    throw new Error(`the page does not open: ${await page.textContent("#error")}; ${complaints.join("\n")}`);
  });
  return { page, context, complaints };
}
