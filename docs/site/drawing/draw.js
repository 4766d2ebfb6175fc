// Puts the controls with the DRAW button into their places on a page.

import { keepForOffline } from "./offline.js";
import { DrawPanel } from "./panel.js";

for (const place of document.querySelectorAll("[data-draw]")) {
  const panel = new DrawPanel(place);
  panel.loadNow().then(() => {
    if (panel.manifest) keepForOffline(panel.list).catch(() => {}); // then the page needs the network again, no more
  });
}
